"""Which kernels run which operations, for people who ask (``tinygrad-cnn doctor``)."""

from __future__ import annotations

from . import elementwise, reduce


def kernel_info() -> list[tuple[str, str]]:
    """(operations, what runs them and when) for all but convolution, which ``dispatch.explain``
    covers. What the conditions exclude is run by NumPy."""
    large, total = f"from {elementwise.LARGE:,} elements", f"from {reduce.LARGE:,} elements"
    alike = "operands of one memory order, or one a scalar or along one axis"
    return [
        (
            "add subtract multiply divide maximum minimum",
            f"float32 and float64 {large}: parallel loops; {alike}",
        ),
        ("relu relu_grad negative absolute sqrt", f"float32 and float64 {large}: parallel loops"),
        ("exp log tanh sigmoid erf", f"float32 {large}: parallel polynomials"),
        ("where", f"float32 {large}, one memory order: parallel loop"),
        ("sum", f"float32 {total}, kept axes neighbours in memory: blocks in parallel"),
        ("max_pool, avg_pool, their adjoints", "float32, ≤ 255 taps: channel vectors or planes"),
        ("batch_norm and its fused forms", "float32: blocks of rows (channels last) or planes"),
        ("softmax log_softmax cross_entropy", "float32 rows along the last axis: vectors"),
        ("sgd_step adam_step", "dense float32 and float64: one launch for all parameters"),
    ]
