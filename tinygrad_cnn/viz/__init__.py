"""Pictures of training and of what a network does."""

from .plots import image_grid, learning_curves

__all__ = ["image_grid", "learning_curves"]
