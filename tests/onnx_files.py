"""Running a model here and in ONNX Runtime, and comparing the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn import nn

RTOL = 1e-4  # of the largest output, as float32 sums are taken in another order


def arrays(result: Any) -> list[np.ndarray[Any, Any]]:
    found = result if isinstance(result, tuple) else (result,)
    return [t.detach().numpy() for t in found]


def ours(model: nn.Module, *inputs: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    with tg.no_grad():
        return arrays(model(*(tg.tensor(x) for x in inputs)))


def theirs(path: Path, *inputs: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return list(session.run(None, dict(zip(names, inputs, strict=True))))


def assert_close(found: list[Any], expected: list[Any], rtol: float = RTOL) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        if b.dtype.kind == "f" and b.size:
            assert np.isfinite(b).all()
            assert np.abs(a - b).max() <= rtol * max(np.abs(b).max(), 1e-3)
        else:
            np.testing.assert_array_equal(a, b)


def numbers(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
