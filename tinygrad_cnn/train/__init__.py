"""Training runs: settings, progress, metrics, checkpoints; and a ready classifier training."""

from .classify import digit_loaders, pictures, predict, prepare, train
from .config import RequestError, TrainConfig, load_config, one_of, setting
from .options import add_options, options, script
from .progress import Progress
from .run import Run

__all__ = [
    "Progress", "RequestError", "Run", "TrainConfig", "add_options", "digit_loaders", "load_config",
    "one_of", "options", "pictures", "predict", "prepare", "script", "setting", "train",
]  # fmt: skip
