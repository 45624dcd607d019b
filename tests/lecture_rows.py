"""What the tests of the lecture notes share: every row on every backend, sizes of models."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn import nn
from tinygrad_cnn.geometry import Window

DEMOS = Path(__file__).resolve().parents[1] / "demos"
BARS = np.zeros((2, 1, 15, 15), np.float32)  # a vertical bar, a horizontal one
BARS[0, 0, :, 6:9] = BARS[1, 0, 6:9, :] = 1


@pytest.fixture(autouse=True)
def on_each(backend: str) -> Any:
    """Every row holds on every backend."""
    tg.manual_seed(0)
    with tg.use_backend(backend):
        yield


def count(model: nn.Module) -> int:
    return sum(p.array.size for p in model.parameters())


def unfilled(builder: Any, *args: Any, **options: Any) -> Any:
    with nn.init.skip():
        return builder(*args, **options)


def shapes(model: nn.Module, shape: tuple[int, ...], *kinds: str) -> list[Any]:
    rows = tg.summary(model, shape, show=False).rows
    return [row.output_shape for row in rows if row.kind in kinds]


def out_size(n: int, f: int, p: int, s: int) -> int:
    return Window((f,), (s,), ((p, p),), (1,)).output((n,))[0]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"notes_{name}", DEMOS / f"{name}.py")
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
