"""Exchange of networks with other programs as ONNX files; needs the extra ``onnx``."""

from .package import OPSET
from .reader import load
from .writer import export

__all__ = ["OPSET", "export", "load"]
