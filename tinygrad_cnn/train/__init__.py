"""Training: a loop written by hand around a ``Run``, or the ``Trainer`` that has written it; both
with callbacks, metrics, checkpoints and settings; and a ready classifier training."""

from .callbacks import (
    ActivationStatistics,
    Callback,
    Checkpoint,
    CSVLog,
    EarlyStopping,
    GradientStatistics,
    KeepBest,
    MetricsLog,
    Progress,
    Schedule,
    StopAfter,
    TensorBoard,
    TimeEstimate,
    read_history,
)
from .classify import ClassifierConfig, image_loaders, pictures, predict, prepare, train
from .config import RequestError, TrainConfig, load_config, one_of, setting
from .features import extract_features
from .freeze import freeze, unfreeze
from .metrics import Accuracy, ConfusionMatrix, LossDistribution, Metric, TopK
from .options import add_options, at_least, options, script
from .run import Run, standard_callbacks, subrun
from .trainer import Trainer, evaluating

__all__ = [
    "Accuracy", "ActivationStatistics", "CSVLog", "Callback", "Checkpoint", "ClassifierConfig",
    "ConfusionMatrix", "EarlyStopping", "GradientStatistics", "KeepBest", "LossDistribution",
    "Metric", "MetricsLog", "Progress", "RequestError", "Run", "Schedule", "StopAfter",
    "TensorBoard", "TimeEstimate", "TopK", "TrainConfig", "Trainer", "add_options", "at_least",
    "evaluating",
    "extract_features", "freeze", "image_loaders", "load_config", "one_of", "options", "pictures",
    "predict", "prepare", "read_history", "script", "setting", "standard_callbacks", "subrun",
    "train", "unfreeze",
]  # fmt: skip
