"""Files: checkpoints of whole training runs in the safetensors format."""

from .checkpoint import load, save, write_atomically

__all__ = ["load", "save", "write_atomically"]
