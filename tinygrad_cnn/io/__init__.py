"""Files: checkpoints in the safetensors format, and the weights that other programs wrote."""

from .checkpoint import load, save, write_atomically

__all__ = ["load", "save", "write_atomically"]
