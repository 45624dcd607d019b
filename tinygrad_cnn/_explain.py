"""The question of ``tinygrad-cnn doctor --explain``: a convolution in one line of text."""

from __future__ import annotations

import re
from typing import NamedTuple

from .geometry import Shape, Window, conv_window

FORM = "OP (N,C,H,W)->O kK [sSTRIDE] [pPADDING] [dDILATION] [gGROUPS]"
EXAMPLE = "conv2d (128,16,32,32)->16 k3 p1"
_PATTERN = re.compile(
    r"(?P<op>\w+)\s*\(\s*(?P<shape>\d+(?:\s*,\s*\d+){3})\s*\)\s*->\s*(?P<outputs>\d+)"
    r"\s+k(?P<kernel>\d+(?:x\d+)?)(?P<options>(?:\s+[spdg]\d+)*)"
)


class Question(NamedTuple):
    """A 2-D convolution: of which operation, and its sizes."""

    op: str
    x_shape: Shape
    w_shape: Shape
    window: Window
    groups: int

    def __str__(self) -> str:
        """The sizes in words, defaults and result included."""
        n, _, *sizes = self.x_shape
        y_shape = (n, self.w_shape[0], *self.window.output(sizes))
        return (
            f"{self.op} {self.x_shape} -> {y_shape}: weight {self.w_shape}, "
            f"stride {self.window.stride[0]}, padding {self.window.padding[0][0]}, "
            f"dilation {self.window.dilation[0]}, groups {self.groups}"
        )


def parse(text: str) -> Question:
    """The convolution described by ``text``; what is left out has PyTorch's default.

    Raises ValueError, with the form and an example, for a text of another form."""
    found = _PATTERN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"--explain expects {FORM}, as in {EXAMPLE!r}; received {text!r}")
    n, c, h, w = (int(size) for size in found["shape"].split(","))
    outputs = int(found["outputs"])
    kernel = [int(size) for size in found["kernel"].split("x")]
    options = {"s": 1, "p": 0, "d": 1, "g": 1}
    options.update((option[0], int(option[1:])) for option in found["options"].split())
    groups = options["g"]
    if groups < 1 or c % groups or outputs % groups:
        raise ValueError(f"--explain: {c} and {outputs} channels do not split into {groups} groups")
    window = conv_window(
        (h, w), (kernel[0], kernel[-1]), options["s"], options["p"], options["d"], found["op"]
    )
    w_shape = (outputs, c // groups, *window.kernel)
    return Question(found["op"], (n, c, h, w), w_shape, window, groups)
