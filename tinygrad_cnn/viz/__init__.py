"""Pictures: learning curves, the comparison of two of them, and sheets of images."""

from .plots import compare_curves, image_grid, learning_curves

__all__ = ["compare_curves", "image_grid", "learning_curves"]
