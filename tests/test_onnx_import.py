"""ONNX files of others: they compute here what they do in ONNX Runtime, or are refused."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_files import assert_close, numbers, ours, theirs

import tinygrad_cnn as tg

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
make = onnx.helper
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def on_numpy() -> Iterator[None]:
    """No kernels are compiled for these few numbers."""
    with tg.use_backend("numpy"):
        yield


# -- graphs as other programs write them -----------------------------------------------------------
Tensors = dict[str, np.ndarray[Any, Any]]


def write(
    path: Path, nodes: list[Any], inputs: Tensors, initial: Tensors, outputs: int = 1,
    opset: int = 17,
) -> Path:  # fmt: skip
    """A file with these nodes, whose last one makes "y" (and "y1" …)."""
    kinds = make.np_dtype_to_tensor_dtype
    names = ["y", *(f"y{i}" for i in range(1, outputs))]
    graph = make.make_graph(
        nodes, "others",
        [make.make_tensor_value_info(n, kinds(a.dtype), [None] * a.ndim)
         for n, a in inputs.items()],
        [make.make_empty_tensor_value_info(n) for n in names],
        [onnx.numpy_helper.from_array(a, n) for n, a in initial.items()],
    )  # fmt: skip
    opsets = [make.make_opsetid("", opset)]
    version = make.find_min_ir_version_for(opsets)
    path.write_bytes(
        make.make_model(graph, opset_imports=opsets, ir_version=version).SerializeToString()
    )
    return path


def op(kind: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    """A node; "-" stands for an input that is left out."""
    names = [n.replace("-", "") for n in inputs.split()]
    return make.make_node(kind, names, outputs.split(), **attributes)


def ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


def scalar(value: float) -> np.ndarray[Any, Any]:
    return np.array(value, np.float32)


X = numbers(2, 3, 7, 6)
W, B, V = numbers(4, 3, 3, 2, seed=1), numbers(4, seed=2), numbers(3, 2, 3, 4, seed=3)
C = {name: 1 + abs(numbers(3, seed=i)) for i, name in enumerate("smtv")}
# nodes, initialisers, version; the input is X unless the initialisers have "x"
GRAPHS: dict[str, tuple[list[Any], Tensors, int]] = {
    "matmul_add": ([op("MatMul", "x w", "a"), op("Add", "a b")],
                   {"w": numbers(6, 5), "b": numbers(5)}, 17),
    "gemm": ([op("Flatten", "x", "a"), op("Gemm", "a w b", transB=1)],
             {"w": numbers(4, 126), "b": numbers(4)}, 17),
    "gemm_general": ([op("Gemm", "x w b", transA=1, alpha=0.5, beta=2.0)],
                     {"x": numbers(4, 3), "w": numbers(4, 5), "b": numbers(3, 1)}, 9),
    "gemm_without_c": ([op("Gemm", "x w")], {"x": numbers(4, 3), "w": numbers(3, 5)}, 11),
    "same_upper": ([op("Conv", "x w b", auto_pad="SAME_UPPER", strides=[2, 2])],
                   {"w": W, "b": B}, 9),
    "same_lower": ([op("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 3])], {"w": W}, 17),
    "asymmetric": ([op("Conv", "x w b", pads=[1, 0, 2, 1], dilations=[2, 1])],
                   {"w": W, "b": B}, 17),
    "keras": (  # channels last: transposed before and after, padding apart, a frozen batch norm
        [op("Transpose", "x", "a", perm=[0, 3, 1, 2]), op("Pad", "a p", "c"),
         op("Conv", "c w b", "d", strides=[2, 2], auto_pad="VALID"),
         op("BatchNormalization", "d g h m v", "e", epsilon=1e-3), op("Relu", "e", "f"),
         op("GlobalAveragePool", "f", "i"), op("Squeeze", "i k", "l"), op("Softmax", "l")],
        {"x": numbers(2, 7, 6, 3), "p": ints(0, 0, 1, 1, 0, 0, 1, 2), "w": W, "b": B,
         "g": B + 3, "h": B, "m": B, "v": B * B + 1, "k": ints(2, 3)}, 15),
    "view_in_torch": (  # x.view(x.size(0), -1)
        [op("Shape", "x", "a"), op("Gather", "a i", "b"), op("Unsqueeze", "b", "c", axes=[0]),
         op("Concat", "c minus", "d", axis=0), op("Reshape", "x d")],
        {"i": np.array(0), "minus": ints(-1)}, 11),
    "reshape_zero": ([op("Reshape", "x s")], {"s": ints(0, 0, -1)}, 14),
    "transposed": ([op("ConvTranspose", "x w", strides=[2, 3], pads=[0, 1, 1, 0],
                       output_padding=[1, 2])], {"w": V}, 11),
    "transposed_bias": ([op("ConvTranspose", "x w b", pads=[1, 0, 0, 0])],
                        {"w": V, "b": numbers(2)}, 17),
    "transposed_shape": ([op("ConvTranspose", "x w", strides=[2, 2], output_shape=[14, 13])],
                         {"w": V}, 17),
    "transposed_same": ([op("ConvTranspose", "x w", strides=[2, 2], auto_pad="SAME_UPPER")],
                        {"w": V}, 17),
    "max_pool": ([op("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 1],
                     ceil_mode=1)], {}, 17),
    "max_pool_same": ([op("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2],
                          auto_pad="SAME_UPPER")], {}, 10),
    "average_pool": ([op("AveragePool", "x", kernel_shape=[3, 2], strides=[2, 2],
                         pads=[1, 0, 0, 1])], {}, 11),
    "average_pool_counting": ([op("AveragePool", "x", kernel_shape=[3, 2], strides=[3, 2],
                                  pads=[1, 1, 1, 0], count_include_pad=1)], {}, 11),
    "average_pool_ceil": ([op("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2],
                              ceil_mode=1)], {}, 11),
    "global_max": ([op("GlobalMaxPool", "x")], {}, 17),
    "batch_norm": ([op("BatchNormalization", "x s t m v", epsilon=0.01)], C, 9),
    "instance_norm": ([op("InstanceNormalization", "x s t", epsilon=0.1)], C, 17),
    "layer_norm": ([op("LayerNormalization", "x w b", axis=-2)],
                   {"w": numbers(7, 6), "b": numbers(7, 6)}, 17),
    "lrn": ([op("LRN", "x", size=3, alpha=0.5, beta=0.6, bias=1.5)], {}, 13),
    "clip_attributes": ([op("Clip", "x", min=-0.5, max=0.3)], {}, 6 + 1),
    "clip_inputs": ([op("Clip", "x - h")], {"h": scalar(0.3)}, 13),
    "dropout": ([op("Dropout", "x", ratio=0.4)], {}, 10),
    "dropout_input": ([op("Dropout", "x r")], {"r": scalar(0.4)}, 13),
    "pad_attributes": ([op("Pad", "x", pads=[0, 0, 1, 2, 0, 0, 0, 1], value=1.5)], {}, 10),
    "pad_edge": ([op("Pad", "x p", mode="edge")], {"p": ints(0, 0, 1, 2, 0, 0, 0, 1)}, 13),
    "pad_axes": ([op("Pad", "x p v a")], {"p": ints(1, 2), "v": scalar(2), "a": ints(-2)}, 18),
    "slice_attributes": ([op("Slice", "x", starts=[1, -3], ends=[3, 100], axes=[1, 3])], {}, 9),
    "slice_backwards": ([op("Slice", "x s e a t")],
                        {"s": ints(100, -2), "e": ints(-100, 0), "a": ints(2, 3),
                         "t": ints(-2, -1)}, 13),
    "softmax_of_rows": ([op("Softmax", "x", axis=2)], {}, 11),
    "log_softmax": ([op("LogSoftmax", "x", axis=1)], {}, 13),
    "selu": ([op("Selu", "x", alpha=1.2, gamma=0.9)], {}, 17),
    "hard_sigmoid": ([op("HardSigmoid", "x", "a"), op("HardSwish", "a")], {}, 14),
    "prelu": ([op("PRelu", "x s")], {"s": numbers(3, 1, 1)}, 16),
    "smooth": ([op("Softsign", "x", "a"), op("Mish", "x", "b"), op("Celu", "x", "c", alpha=2.0),
                op("Elu", "x", "d", alpha=0.3), op("LeakyRelu", "x", "e"), op("Sum", "a b c d e")],
               {}, 18),
    "gelu": ([op("Gelu", "x", approximate="tanh")], {}, 20),
    "variadic": ([op("Max", "x a", "c"), op("Min", "x a b", "d"), op("Mean", "c d x")],
                 {"a": scalar(0.1), "b": numbers(6)}, 13),
    "reduce_attributes": ([op("ReduceMean", "x", "a", axes=[2, 3]), op("ReduceSum", "a",
                           axes=[1], keepdims=0)], {}, 11),
    "reduce_inputs": ([op("ReduceMean", "x a", "b"), op("ReduceMax", "b", keepdims=0)],
                      {"a": ints(2, 3)}, 18),
    "reductions": ([op("ReduceL1", "x", "a", axes=[1]), op("ReduceL2", "a", "b", axes=[2]),
                    op("ReduceSumSquare", "b", "c", axes=[3]), op("ReduceLogSumExp", "c", "d"),
                    op("ReduceProd", "x", "e", axes=[1, 3]), op("ReduceMin", "e", "f"),
                    op("Add", "d f")], {}, 13),
    "no_axes": ([op("ReduceSum", "x a", noop_with_empty_axes=1)],
                {"a": np.zeros(0, np.int64)}, 13),
    "positions": ([op("ArgMax", "x", "a", axis=1, keepdims=0), op("ArgMin", "x", "b", axis=-1,
                   keepdims=0), op("ReduceSum", "b", "c", keepdims=0),
                   op("Add", "a c")], {}, 13),
    "cumsum": ([op("CumSum", "x a", reverse=1)], {"a": np.array(2)}, 14),
    "split": ([op("Split", "x", "a b c", axis=2, num_outputs=3), op("Concat", "c a b", axis=2)],
              {}, 18),
    "split_attributes": ([op("Split", "x", "a b", axis=1, split=[1, 2]),
                          op("Concat", "b a", axis=1)], {}, 11),
    "split_equal": ([op("Split", "x", "a b", axis=3), op("Sub", "a b")], {}, 13),
    "depth_to_space": ([op("DepthToSpace", "x", blocksize=2)], {"x": numbers(2, 8, 2, 3)}, 13),
    "depth_to_space_crd": ([op("DepthToSpace", "x", blocksize=2, mode="CRD")],
                           {"x": numbers(2, 8, 2, 3)}, 13),
    "upsample": ([op("Upsample", "x s")], {"s": np.array([1, 1, 2, 3], np.float32)}, 9),
    "resize_nearest": ([op("Resize", "x - s", mode="nearest", nearest_mode="floor",
                           coordinate_transformation_mode="asymmetric")],
                       {"s": np.array([1, 1, 2, 1], np.float32)}, 13),
    "resize_factor": ([op("Resize", "x - s", mode="linear")],
                      {"s": np.array([1, 1, 0.7, 1.5], np.float32)}, 13),
    "resize_rounded": ([op("Resize", "x - s", mode="linear")],
                       {"x": numbers(2, 3, 5, 3),
                        "s": np.array([1, 1, 1.4, 5 / 3], np.float32)}, 13),
    "resize_sizes": ([op("Resize", "x - - s", mode="linear")], {"s": ints(2, 3, 14, 3)}, 13),
    "resize_corners": ([op("Resize", "x - - s", mode="linear",
                           coordinate_transformation_mode="align_corners")],
                       {"s": ints(2, 3, 5, 9)}, 13),
    "expand_tile": ([op("Unsqueeze", "x a", "b"), op("Expand", "b s", "c"), op("Tile", "c r")],
                    {"a": ints(1, -1), "s": ints(2, 1, 1, 1, 3), "r": ints(1, 2, 1, 1, 1, 2)}, 13),
    "made_in_the_graph": (
        [op("ConstantOfShape", "s", "a", value=make.make_tensor("v", 1, [1], [2.5])),
         op("Range", "zero six one", "b"), op("Add", "a b", "c"), op("Mul", "x c")],
        {"s": ints(7, 1), "zero": scalar(0), "six": scalar(6), "one": scalar(1)}, 13),
    "gather": ([op("Gather", "x i", "a", axis=-1), op("Gather", "a j", axis=2)],
               {"i": np.array([[0, -1], [2, 2]]), "j": np.array(-2)}, 13),
    "gather_elements": ([op("GatherElements", "x i", axis=1)],
                        {"i": np.full((2, 1, 7, 6), -1)}, 13),
    "logic": ([op("Greater", "x h", "a"), op("Not", "a", "b"), op("Less", "x h", "c"),
               op("Or", "b c", "d"), op("Where", "d x h", "e"), op("Cast", "d", "f", to=1),
               op("Add", "e f")], {"h": scalar(0.2)}, 13),
    "integers": ([op("Div", "x k", "a"), op("Mod", "x k", "b"), op("Mul", "a b", "c"),
                  op("Cast", "c", "d", to=1), op("Mod", "d h", fmod=1)],
                 {"x": np.arange(1, 8), "k": np.array(3), "h": scalar(1.5)}, 13),
    "constants": ([op("Constant", "", "a", value_floats=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
                   op("Constant", "", "b", value_float=2.0), op("Pow", "a b", "c"),
                   op("Add", "x c")], {}, 13),
    "elements": ([op("Abs", "x", "a"), op("Sqrt", "a", "b"), op("Reciprocal", "a", "c"),
                  op("Neg", "c", "d"), op("Exp", "d", "e"), op("Log", "a", "f"),
                  op("Sigmoid", "f", "g"), op("Tanh", "x", "h"), op("Erf", "h", "i"),
                  op("Asin", "h", "j"), op("Acos", "h", "k"), op("Atan", "x", "l"),
                  op("Sum", "b e g i j k l")], {}, 13),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_of_others(name: str, tmp_path: Path) -> None:
    nodes, initial, opset = GRAPHS[name]
    x = initial.get("x", X)
    initial = {n: a for n, a in initial.items() if n != "x"}
    path = write(tmp_path / "m.onnx", nodes, {"x": x}, initial, opset=opset)
    assert_close(ours(tg.onnx.load(path), x), theirs(path, x), 1e-5)


def test_even_windows_of_lrn(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [op("LRN", "x", size=2, alpha=0.8)], {"x": X}, {})
    expected = np.empty_like(X)
    for c in range(3):
        window = X[:, c : c + 2]  # c − floor(1/2) … c + ceil(1/2)
        expected[:, c] = X[:, c] / (1 + 0.4 * (window**2).sum(1)) ** 0.75
    assert_close(ours(tg.onnx.load(path), X), [expected], 1e-6)


def test_roles_of_initialisers(tmp_path: Path) -> None:
    nodes = [op("Conv", "x a.weight a.b", "c"), op("BatchNormalization", "c s t m v", "d"),
             op("Mul", "d half", "e"), op("Reshape", "e shape")]  # fmt: skip
    initial = {"a.weight": W, "a.b": B, "s": B, "t": B, "m": B, "v": B * B, "half": scalar(0.5),
               "shape": ints(0, -1)}  # fmt: skip
    model = tg.onnx.load(write(tmp_path / "m.onnx", nodes, {"x": X}, initial))
    assert {n for n, _ in model.named_parameters()} == {"a.weight", "a.b", "s", "t"}
    assert set(model.state_dict()) == {"a.weight", "a.b", "s", "t", "m", "v"}


@pytest.mark.parametrize(("kind", "expected"), [
    ("FLOAT16", "float16"), ("DOUBLE", "float64"), ("BFLOAT16", "float32"), ("INT8", "int32"),
    ("UINT16", "int32"), ("UINT8", "uint8"), ("INT32", "int32"), ("BOOL", "bool"),
])  # fmt: skip
def test_kinds_of_numbers(kind: str, expected: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [op("Identity", "w")], {"x": X}, {"w": ints(1, 0, 1)})
    proto = onnx.load(path)
    values = make.make_tensor("w", getattr(onnx.TensorProto, kind), [3], [1, 0, 1])
    proto.graph.initializer[0].CopyFrom(values)
    path.write_bytes(proto.SerializeToString())
    (found,) = ours(tg.onnx.load(path), X)
    assert (found.dtype.name, found.tolist()) == (expected, [1, 0, 1])


@pytest.mark.parametrize("kind", ["STRING", "COMPLEX64", "UINT64"])
def test_other_kinds_of_numbers_are_refused(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [op("Identity", "w")], {"x": X}, {"w": ints(1)})
    proto = onnx.load(path)
    one = b"1" if kind == "STRING" else 1
    values = make.make_tensor("w", getattr(onnx.TensorProto, kind), [1], [one])
    proto.graph.initializer[0].CopyFrom(values)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match="tensor 'w' has dtype .* which is not supported"):
        tg.onnx.load(path)


def test_names_of_any_kind_find_a_place(tmp_path: Path) -> None:
    names = ["forward", "a", "a.b", "_hooks", "__class__", "", ".", "steps", "places.x", "training",
             "onnx::Conv_1", "state_dict.", "b_", "b"]  # fmt: skip
    nodes = [op("Identity", "x", "v0")]
    for i, _ in enumerate(names):
        node = op("Add", "v v", f"v{i + 1}")
        node.input[:] = [f"v{i}", names[i] or "empty"]
        nodes.append(node)
    nodes.append(op("Identity", f"v{len(names)}"))
    initial = {name or "empty": numbers(6, seed=i) for i, name in enumerate(names)}
    path = write(tmp_path / "m.onnx", nodes, {"x": X}, initial)
    model = tg.onnx.load(path)
    assert len(model.state_dict()) == len(names)
    assert_close(ours(model, X), theirs(path, X), 1e-5)


def torch_models() -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    t = torch.nn

    class Residual(t.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = t.Conv2d(3, 3, 3, padding=1, bias=False), t.BatchNorm2d(3)
            self.head = t.Linear(3, 2)

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.norm(self.conv(x))) + x
            y = torch.nn.functional.pad(y, (1, 0, 0, 1))[:, :, ::2]
            return self.head(y.mean((2, 3))).view(x.size(0), -1).softmax(1)

    return {
        "lenet": t.Sequential(
            t.Conv2d(3, 6, 3, padding=1), t.Tanh(), t.AvgPool2d(2), t.Conv2d(6, 8, 3),
            t.ReLU(inplace=True), t.MaxPool2d(2, ceil_mode=True), t.Flatten(), t.Linear(8, 5),
        ),
        "residual": Residual(),
        "generator": t.Sequential(
            t.ConvTranspose2d(3, 4, 4, 2, 1, bias=False), t.BatchNorm2d(4), t.LeakyReLU(0.2),
            t.Upsample(scale_factor=2), t.PixelShuffle(2), t.Hardswish(), t.Hardtanh(),
        ),
        "norms": t.Sequential(
            t.GroupNorm(3, 3), t.InstanceNorm2d(3, affine=True), t.LayerNorm((8, 8)), t.GELU(),
            t.ReLU6(), t.Dropout(), t.AvgPool2d(2),
        ),
    }  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", ["lenet", "residual", "generator", "norms"])
def test_what_pytorch_exports(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model, x = torch_models()[name].eval(), numbers(2, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its tracer warns of what it freezes
        torch.onnx.export(
            model, (torch.tensor(x),), str(tmp_path / "m.onnx"), dynamo=False, opset_version=17,
            input_names=["x"], dynamic_axes={"x": {0: "batch"}},
        )  # fmt: skip
    again = tg.onnx.load(tmp_path / "m.onnx")
    for batch in (2, 5):
        x = numbers(batch, 3, 8, 8, seed=batch)
        with torch.no_grad():
            assert_close(ours(again, x), [model(torch.tensor(x)).numpy()], 1e-5)


# -- files that are damaged or mean harm -----------------------------------------------------------
def test_all_unknown_operators_are_listed(tmp_path: Path) -> None:
    nodes = [op("Einsum", "x", "a", equation="nchw->c"), op("NonZero", "a", "b"),
             op("NonZero", "b", "c"), op("Relu", "c", "d"),
             op("FusedConv", "d", domain="com.microsoft")]  # fmt: skip
    path = write(tmp_path / "m.onnx", nodes, {"x": X}, {})
    with pytest.raises(ValueError, match=re.escape(
        "not supported: Einsum (1×), NonZero (2×), com.microsoft.FusedConv (1×)"
    )):  # fmt: skip
        tg.onnx.load(path)


def test_files_that_are_no_graphs(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(FileNotFoundError, match="no such file"):
        tg.onnx.load(path)
    for content in (b"", b"hello, world", bytes(range(256))):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a complete ONNX file|not an ONNX file"):
            tg.onnx.load(path)
    whole = write(path, [op("MatMul", "x w")], {"x": X}, {"w": numbers(6, 50)}).read_bytes()
    for end in range(0, len(whole), 37):  # nothing but ValueError, wherever it is cut
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="m.onnx: "):
            tg.onnx.load(path)


def test_damage_of_single_bytes_gives_no_other_error(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    nodes = [op("Conv", "x w b", "c", pads=[1, 1, 1, 1]), op("Reshape", "c s")]
    whole = write(path, nodes, {"x": X}, {"w": W, "b": B, "s": ints(0, -1)}).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            ours(tg.onnx.load(path), X)
        except (ValueError, TypeError, IndexError) as error:
            assert str(error)


HOSTILE: dict[str, tuple[list[Any], Tensors]] = {
    "constant": ([op("ConstantOfShape", "s")], {"s": ints(10**6, 10**6)}),
    "negative": ([op("ConstantOfShape", "s")], {"s": ints(-1)}),
    "expand": ([op("Expand", "x s")], {"s": ints(10**7, 1, 1, 1, 1)}),
    "tile": ([op("Tile", "x s")], {"s": ints(10**5, 10**5, 1, 1)}),
    "range": ([op("Range", "a b c")], {"a": scalar(0), "b": scalar(1e12), "c": scalar(1)}),
    "pad": ([op("Pad", "x p")], {"p": ints(0, 0, 10**6, 0, 0, 0, 0, 10**6)}),
    "resize": ([op("Resize", "x - - s", mode="linear")], {"s": ints(2, 3, 10**6, 10**6)}),
    "conv": ([op("Conv", "x w", pads=[10**6] * 4)], {"w": W}),
    "transposed": ([op("ConvTranspose", "x w", strides=[10**6] * 2)], {"w": V}),
    "pool": ([op("MaxPool", "x", kernel_shape=[2, 2], pads=[10**6] * 4)], {}),
    "stride": ([op("Conv", "x w", strides=[0, 1])], {"w": W}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_small_files_cannot_ask_for_much_memory(name: str, tmp_path: Path) -> None:
    nodes, initial = HOSTILE[name]
    model = tg.onnx.load(write(tmp_path / "m.onnx", nodes, {"x": X}, initial))
    with pytest.raises(ValueError, match="asks for a tensor|without cells|strides") as found:
        model(tg.tensor(X))
    assert found.value.__notes__ == [f"in {nodes[-1].op_type} 'y'"]


@pytest.mark.parametrize(("nodes", "message"), [
    ([op("Relu", "later", "a"), op("Relu", "x", "later"), op("Relu", "a")],
     "Relu 'a' needs 'later', which nothing before it makes"),
    ([op("Relu", "x", "a"), op("Relu", "a", "a"), op("Relu", "a")], "'a', which exists already"),
    ([op("Relu", "x", "a")], "nothing makes the output 'y'"),
])  # fmt: skip
def test_graphs_out_of_order(nodes: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        tg.onnx.load(write(tmp_path / "m.onnx", nodes, {"x": X}, {}))


def external(tmp_path: Path, **entries: Any) -> Path:
    """A file whose weight lies elsewhere."""
    folder = tmp_path / "model"
    folder.mkdir()
    path = write(folder / "m.onnx", [op("MatMul", "x w")], {"x": X}, {"w": numbers(6, 2)})
    proto = onnx.load(path)
    (tensor,) = proto.graph.initializer
    for place in (tmp_path / "outside.bin", folder / "weights.bin"):
        place.write_bytes(b"1234" + tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(proto.SerializeToString())
    return path


def test_data_in_a_file_beside(tmp_path: Path) -> None:
    path = external(tmp_path, location="weights.bin", offset=4, length=48)
    assert_close(ours(tg.onnx.load(path), X), [X @ numbers(6, 2)], 1e-6)


@pytest.mark.parametrize(("entries", "message"), [
    ({"location": "../outside.bin", "offset": 4}, "lie outside the file's folder"),
    ({"location": "link.bin", "offset": 4}, "lie outside the file's folder"),
    ({"location": "none.bin"}, "are missing: none.bin"),
    ({"location": "weights.bin", "offset": 4, "length": 4000}, "it has 52 bytes"),
    ({"location": "weights.bin", "offset": -4, "length": 48}, "it has 52 bytes"),
    ({"location": "weights.bin"}, "'w' is damaged"),
    ({}, "are missing"),
])  # fmt: skip
def test_data_elsewhere(entries: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = external(tmp_path, **entries)
    (path.parent / "link.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(ValueError, match=message):
        tg.onnx.load(path)


def test_data_at_an_absolute_place(tmp_path: Path) -> None:
    path = external(tmp_path, location=tmp_path / "model" / "weights.bin", offset=4)
    with pytest.raises(ValueError, match="lie outside the file's folder"):
        tg.onnx.load(path)


def test_a_tensor_larger_than_its_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [op("MatMul", "x w")], {"x": X}, {"w": numbers(6, 2)})
    proto = onnx.load(path)
    proto.graph.initializer[0].dims[0] = 10**12
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match="tensor 'w' is damaged"):
        tg.onnx.load(path)
