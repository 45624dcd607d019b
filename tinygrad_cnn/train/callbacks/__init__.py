"""Callbacks: what else happens during a training. To write one, derive from ``Callback``."""

from .base import Callback, Monitor
from .checkpoint import Checkpoint, KeepBest
from .estimate import TimeEstimate
from .logs import CSVLog, MetricsLog, read_history
from .progress import Progress
from .schedule import Schedule
from .statistics import ActivationStatistics, GradientStatistics
from .stopping import EarlyStopping, StopAfter
from .tensorboard import TensorBoard

__all__ = [
    "ActivationStatistics", "CSVLog", "Callback", "Checkpoint", "EarlyStopping",
    "GradientStatistics", "KeepBest", "MetricsLog", "Monitor", "Progress", "Schedule", "StopAfter",
    "TensorBoard", "TimeEstimate", "read_history",
]  # fmt: skip
