"""Winograd convolution: 3×3 kernels of stride 1, and the stages that ``winograd_strided`` shares.

Three stages (``winograd_tiles`` has the mathematics):

1. each input tile is transformed: V[f][tile][channel], f = 0 … (r+3)² − 1;
2. for each f, a matrix product over channels: M[f] = V[f] · U[f], U the transformed weights;
3. each output tile is transformed back.

Narrow layers run all three for a block of tiles at a time, in one kernel: V and M of a block stay
in the second-level cache (``fused``). Wide layers have weights larger than that cache, which every
block would read again; there each stage runs over many tiles before the next (``staged``). The
kernels are in ``winograd_stages``, sizes and blocks in ``winograd_plan``.

The input gradient of such a convolution is the convolution of gy with the kernel turned by 180° and
its channel axes exchanged, padded by 2 − padding.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from .layout import channels_last, to_channels_last
from .memory import empty
from .microkernel import ACCUMULATE, RELU, even_rows_kernel
from .runtime import address, worker_scratch
from .simd import BYTES, WIDTH
from .winograd_plan import MR, Plan, Problem, make_plan, padded, problem_of, whole
from .winograd_stages import GROUP, KERNELS, WEIGHT_ROWS
from .winograd_tiles import F3, Transforms


class Weights(NamedTuple):
    """Kernels as a matrix: address, byte strides of (k, n, i, j), rows and columns."""

    start: int
    strides: Shape
    high: int
    wide: int

    @property
    def arguments(self) -> tuple[int, ...]:
        """In the order of the kernels' arguments."""
        return (self.start, *self.strides, self.high, self.wide)

    @property
    def taps_bytes(self) -> int:
        """See ``taps_rows``."""
        return -(-self.high * self.wide // WIDTH) * WIDTH * BYTES


def transform_weights(
    plan: Plan, w: Weights, problem: Problem, F: Transforms, u: int, scratch: int
) -> None:
    """U of all weights, to the address u."""
    chunks = -(-problem.c // WEIGHT_ROWS) * (padded(problem.o) // WIDTH)
    KERNELS[F.r].weights(chunks, address(plan.table), *w.arguments, u, scratch,
                         _weight_bytes(w, F))  # fmt: skip


def _weight_bytes(w: Weights, F: Transforms) -> int:
    """Scratch memory of a worker that transforms weights."""
    return (F.entries + F.r**2) * BYTES + w.taps_bytes


def convolve(
    problem: Problem, F: Transforms, x: int, y: int, w: Weights, bias: Any, mode: int
) -> None:
    """Run a problem on the arrays at the addresses x and y."""
    plan = make_plan(problem, F)
    bias = _padded_bias(bias, padded(problem.o))
    if plan.staged:
        return _run_staged(plan, problem, x, y, w, bias, mode, F)
    per_worker = _local_bytes(problem, F) + F.entries * (plan.v_step + plan.m_step)
    u_bytes = -(-F.entries * plan.u_step // 64) * 64
    u = worker_scratch(max(per_worker, _weight_bytes(w, F)), u_bytes)
    transform_weights(plan, w, problem, F, u, u + u_bytes)
    KERNELS[F.r].fused(
        -(-plan.tiles // plan.block), address(plan.table), x, y, u,
        0 if bias is None else address(bias), mode, u + u_bytes, per_worker, *_micro(plan),
    )  # fmt: skip
    return None


def _run_staged(
    plan: Plan, problem: Problem, x: int, y: int, w: Weights, bias: Any, mode: int, F: Transforms
) -> None:
    run, entries, table = KERNELS[F.r], F.entries, address(plan.table)
    local = _local_bytes(problem, F)
    panel_bytes = _weight_bytes(w, F) + entries * (WEIGHT_ROWS * plan.panels.nr * 4 + 64)
    scratch = worker_scratch(max(local, panel_bytes))
    v, mm = (empty((entries * step // 4,), np.float32) for step in (plan.v_step, plan.m_step))
    for first in range(0, plan.tiles, plan.block):
        count = min(plan.block, plan.tiles - first)
        groups = -(-count // GROUP)
        run.inputs(groups, table, first, count, x, address(v), scratch, local)
        run.panel_products(plan.panels.number, table, count, address(v), address(mm),
                           *w.arguments, scratch, panel_bytes, *_micro(plan))  # fmt: skip
        run.outputs(groups, table, first, count, address(mm), y,
                    0 if bias is None else address(bias), mode, scratch,
                    local)  # fmt: skip


def _local_bytes(problem: Problem, F: Transforms) -> int:
    """Scratch memory for the transform of one tile: its temporaries and a padded copy."""
    width: int = F.entries * (BYTES + 4 * max(padded(problem.c), padded(problem.o)))
    return width


def _micro(plan: Plan) -> tuple[int, int]:
    """Addresses of the micro-kernels."""
    step = int(plan.table[30]) * 4  # from tile to tile of V
    wide, narrow = plan.panels.wide, plan.panels.narrow
    return (
        even_rows_kernel(MR[wide - 1], wide, WIDTH, step).load(),
        even_rows_kernel(MR[narrow - 1], narrow, WIDTH, step).load(),
    )


def _padded_bias(bias: Any, op: int) -> Any:
    """The bias with zeros up to a whole vector."""
    if bias is None:
        return None
    out = np.zeros(op, np.float32)
    out[: bias.size] = bias
    return out


def conv(
    x: Any, w: Any, bias: Any, window: Window, groups: int, relu: bool = False, into: Any = None
) -> Any:
    """As ``conv_direct.conv``, for a 3×3 kernel of stride 1 without groups."""
    x = to_channels_last(x)
    y = (
        channels_last((x.shape[0], w.shape[0], *window.output(x.shape[2:])))
        if into is None
        else into
    )
    phases = whole(x, window.padding[0][0], window.padding[1][0])
    problem = problem_of(x.shape[:2], x.strides, phases, y.shape[1:], y.strides)
    weights = Weights(address(w), (w.strides[1], w.strides[0], *w.strides[2:]), 3, 3)
    mode = (RELU if relu else 0) | (ACCUMULATE if into is not None else 0)
    convolve(problem, F3, address(x), address(y), weights, bias, mode)
    return y


def conv_input_grad(
    gy: Any, w: Any, shape: Shape, window: Window, groups: int, into: Any = None
) -> Any:
    """As ``conv_direct.conv_input_grad``, for a 3×3 kernel of stride 1 without groups."""
    gy = to_channels_last(gy)
    gx = channels_last(shape) if into is None else into
    phases = whole(gy, 2 - window.padding[0][0], 2 - window.padding[1][0], turned=True)
    problem = problem_of(gy.shape[:2], gy.strides, phases, shape[1:], gx.strides)
    weights = Weights(address(w), w.strides, 3, 3)
    mode = ACCUMULATE if into is not None else 0
    convolve(problem, F3, address(gy), address(gx), weights, None, mode)
    return gx
