"""Which kernels run which operations, for people who ask (``tinygrad-cnn doctor``)."""

from __future__ import annotations

from . import cumulate, elements, elementwise, gather, positions, reduce, select, strided


def kernel_info() -> list[tuple[str, str]]:
    """(operations, what runs them and when) for all but convolution, which ``dispatch.explain``
    covers. What the conditions exclude is run by NumPy."""
    large, total = f"from {elementwise.LARGE:,} elements", f"from {reduce.LARGE:,} elements"
    simple = f"{large} ({elementwise.SIMPLE >> 10} KB in one memory order)"
    alike = "operands of another memory order are copied first"
    moved = f"from {strided.LARGE:,} elements of 4 bytes, or of 8 in runs"
    return [
        (
            "add subtract multiply divide",
            f"float32 and float64 {simple}: parallel loops; {alike}",
        ),
        (
            "maximum minimum relu relu_grad leaky_relu sign sqrt",
            f"float32 and float64 {large}: parallel loops; {alike}",
        ),
        (
            "negative absolute isnan isinf isfinite",
            f"float32 and float64 {simple}: parallel loops",
        ),
        (
            "equal not_equal less less_equal greater greater_equal",
            f"float32, float64 and int64 {simple}: parallel loops; {alike}",
        ),
        (
            "logical and bitwise operations",
            f"booleans from {elementwise.SIMPLE >> 10} KB: parallel loops",
        ),
        (
            "power by " + ", ".join(map(str, sorted(elements.POWERS))),
            f"float32 and float64 from {elementwise.FEW:,} elements: products and roots",
        ),
        ("exp log tanh sigmoid erf", f"float32 {large}: parallel polynomials"),
        (
            "activation activation_grad (elu silu gelu softplus hardtanh …)",
            "float32 of any size, dense: one pass of parallel polynomials",
        ),
        (
            "pair_loss pair_loss_grad (square absolute huber logistic binary divergence)",
            "float32 of any size: one pass, sums of runs in float64",
        ),
        ("prelu_grad", "float32, slopes along one axis: both gradients in one pass"),
        ("resample (interpolation, padding by copies)", "float32 images: vectors of channels"),
        ("group_norm layer_norm and their gradients", "float32: images, planes or rows"),
        (
            "indexing by numbers along one axis, take_along_axis, their adjoints",
            f"float32 from {gather.LARGE:,} elements: rows in parallel",
        ),
        ("where", f"float32, float64 and int64 {large}: parallel loop"),
        (
            "astype to float32 and float64",
            f"from {elementwise.SIMPLE // 4:,} elements: parallel loops",
        ),
        ("copy assign pad concatenate reshape, slices' gradients", f"{moved}: tiles in parallel"),
        ("random_bits random_uniform random_normal", "float32 and float64: Philox in parallel"),
        (
            "sum sum_of_squares",
            f"float32 {total}, what is kept in up to two pieces of memory: blocks in parallel",
        ),
        ("max min", f"float32 {total}, in up to two pieces of memory: vectors in parallel"),
        (
            "argmax argmin",
            f"float32 from {positions.LARGE:,} elements: rows, or places side by side",
        ),
        ("argtop (topk)", f"float32, at most {select.MOST} wanted: one pass, rows in parallel"),
        ("cumsum", f"float32 from {cumulate.LARGE:,} elements: rows side by side, or vectors"),
        ("max_pool, avg_pool, their adjoints", "float32, ≤ 255 taps: channel vectors or planes"),
        ("batch_norm and its fused forms", "float32: blocks of rows (channels last) or planes"),
        (
            "softmax log_softmax and their gradients",
            "float32, any axis: rows, or vectors of places",
        ),
        ("cross_entropy", "float32 rows along the last axis: vectors"),
        (
            "sgd_step adam_step amsgrad_step rmsprop_step adagrad_step",
            "dense float32 and float64: one launch for all parameters",
        ),
        ("squared_norms", "dense float32: one launch for all arrays"),
    ]
