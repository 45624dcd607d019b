"""Pictures of networks, trainings and what they make; each function returns its figures too.

Files are written by matplotlib, which is imported when the first picture is drawn; no window opens.
"""

from .ascent import Pattern, filter_pattern
from .boundary import Boundary, decision_boundaries
from .flow import gradient_curves, gradient_norms
from .generated import interpolate, interpolation_sheet, sample_sheet
from .heat import grad_cam, heat_sheet, saliency
from .maps import LayerMaps, activations
from .photos import apply_kernel, drawn_scenes, filtered_photographs, line_answers
from .plots import (
    compare_curves,
    compare_trainings,
    confusion_matrix,
    image_grid,
    learning_curves,
    lines,
)
from .weights import ConvMatrix, colourfulness, conv_matrix, filters

__all__ = [
    "Boundary", "ConvMatrix", "LayerMaps", "Pattern", "activations", "apply_kernel",
    "colourfulness", "compare_curves", "compare_trainings", "confusion_matrix", "conv_matrix",
    "decision_boundaries", "drawn_scenes", "filter_pattern", "filtered_photographs", "filters",
    "grad_cam", "gradient_curves", "gradient_norms", "heat_sheet", "image_grid", "interpolate",
    "interpolation_sheet", "learning_curves", "line_answers", "lines", "saliency", "sample_sheet",
]  # fmt: skip
