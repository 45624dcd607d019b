"""The package ``onnx``, which knows the file format; and the versions of the operators we write."""

from __future__ import annotations

from typing import Any

OPSET = 17  # written unless another is asked for
OPSETS = range(13, 23)  # that can be written
OLDEST = 7  # that can be read
LARGEST_FILE = (1 << 31) - 1  # bytes that a protobuf message can have


def onnx_package() -> Any:
    """The package, with the modules used here. Raises ImportError that says how to install it."""
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError(
            "ONNX files need the packages of the extra 'onnx': "
            "python -m pip install 'tinygrad_cnn[onnx]'"
        ) from error
    return onnx
