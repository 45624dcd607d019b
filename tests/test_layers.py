"""Who may import whom, and what ``import tinygrad_cnn`` costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A file belongs to the layer that names its first folder (or its own name, for a file beside
# __init__.py); what no layer names is "engine": tensors and their derivatives.
LAYERS = {
    "contract": {"geometry", "backend", "philox"},
    "methods": {"_methods"},
    "ops": {"ops"},
    "nn": {"nn"},
    "optim": {"optim"},
    "models": {"models"},
    "tools": {"data", "io", "train", "viz", "summary", "receptive_field"},
    "cli": {"bench", "cli", "_doctor", "_explain", "_warmup"},
    "backends": {"backends"},
    "face": {"__init__"},
}

# What a layer may import of this project, itself included. Nobody imports a backend: the registry
# in backend.py loads it by its dotted name when somebody first asks for it.
MAY_IMPORT = {
    "contract": {"contract"},
    "backends": {"contract", "backends"},
    "engine": {"contract", "engine", "methods"},
    "methods": {"contract", "engine", "ops"},  # tensor methods are calls of ops
    "ops": {"contract", "engine", "ops"},
    "nn": {"contract", "engine", "ops", "nn"},
    "optim": {"contract", "engine", "ops", "optim"},
    "models": {"contract", "engine", "ops", "nn", "models", "face"},
    "tools": {"contract", "engine", "ops", "nn", "optim", "models", "tools", "face"},
    "cli": {"contract", "engine", "ops", "nn", "optim", "models", "tools", "cli", "face"},
    "face": {"contract", "engine", "ops", "nn", "optim", "models", "tools"},
}

# Inside functions only: ops are made of tensors.
MAY_IMPORT_LATER = {"engine": {"ops"}}

# Packages of others at the top of a file (elsewhere NumPy alone), and inside functions.
THIRD_PARTY = {
    "contract": set(),
    "cli": {"numpy"},
    "tools": {"numpy"},
}
THIRD_PARTY_LATER = {
    "tools": {"matplotlib", "rich", "safetensors", "PIL", "tensorboardX", "onnx", "google"},
    "cli": {"matplotlib", "rich"},
}


class Import(NamedTuple):
    file: Path
    line: int
    module: str  # absolute
    later: bool  # inside a function


def layer_of(module: str) -> str:
    """The layer of a module of this project, by its absolute name."""
    part = (module.split(".") + ["__init__"])[1]
    return next((name for name, parts in LAYERS.items() if part in parts), "engine")


def sources() -> Iterator[tuple[Path, str]]:
    """Every source file and the module it is."""
    for package, folder in (
        ("tinygrad_cnn", ROOT / "tinygrad_cnn"),
        ("tinygrad_cnn.backends", ROOT / "backends"),
    ):
        for file in sorted(folder.rglob("*.py")):
            inside = file.relative_to(folder).with_suffix("").parts
            yield file, ".".join((package, *inside))


def is_module(name: str) -> bool:
    """Whether a dotted name of this project is a file or folder (and not a name inside one)."""
    _, *parts = name.split(".")
    base = ROOT / "backends" if parts[:1] == ["backends"] else ROOT / "tinygrad_cnn"
    path = base.joinpath(*(parts[1:] if parts[:1] == ["backends"] else parts))
    return path.is_dir() or path.with_suffix(".py").is_file()


def type_checking_lines(tree: ast.Module) -> set[int]:
    """Lines below ``if TYPE_CHECKING:``, which never run."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for line in range(statement.lineno, (statement.end_lineno or 0) + 1)
    }


def imports(file: Path, module: str) -> Iterator[Import]:
    """Every import statement that can run, as absolute module names."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typing_only = type_checking_lines(tree)
    inside_functions = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom) or node.lineno in typing_only:
            continue
        later = id(node) in inside_functions
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join((*package, *filter(None, [node.module])))
            under = [f"{base}.{alias.name}" for alias in node.names]
            names = [
                name if name.startswith("tinygrad_cnn") and is_module(name) else base
                for name in under
            ]
        for name in dict.fromkeys(names):
            yield Import(file, node.lineno, name, later)


def where(found: Import) -> str:
    return f"{found.file.relative_to(ROOT)}:{found.line} imports {found.module}"


def all_imports() -> Iterator[tuple[str, Import]]:
    """(layer of the importing file, import) for the whole project."""
    for file, module in sources():
        for found in imports(file, module):
            yield layer_of(module), found


def test_layers_import_downwards_only() -> None:
    wrong = []
    for layer, found in all_imports():
        if found.module.split(".")[0] != "tinygrad_cnn":
            continue
        allowed = MAY_IMPORT[layer] | (MAY_IMPORT_LATER.get(layer, set()) if found.later else set())
        if layer_of(found.module) not in allowed:
            wrong.append(f"{where(found)}: {layer} may import {', '.join(sorted(allowed))}")
    assert not wrong, "\n".join(wrong)


def allowed_packages(layer: str, found: Import) -> set[str]:
    if layer == "backends":
        path = found.file.relative_to(ROOT / "backends").as_posix()
        if path.startswith("numba_"):
            return {"numpy", "numba", "llvmlite"}
        if path.startswith(("cuda/", "cupy_", "cudasim_")):
            return {"numpy", "cupy", "cupyx"}
    later = THIRD_PARTY_LATER.get(layer, set()) if found.later else set()
    return THIRD_PARTY.get(layer, {"numpy"}) | later


def test_packages_of_others_are_imported_where_they_belong() -> None:
    ours = {"tinygrad_cnn", "__future__", *sys.stdlib_module_names}
    wrong = []
    for layer, found in all_imports():
        package = found.module.split(".")[0]
        if package not in ours | allowed_packages(layer, found):
            wrong.append(where(found))
    assert not wrong, "\n".join(wrong)


def test_backends_import_each_other_relatively() -> None:
    # An absolute import is a second copy of the module to a tool that reads backends/ by path.
    wrong = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file, module in sources()
        if layer_of(module) == "backends"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and not node.level
        and (node.module or "").startswith("tinygrad_cnn.backends")
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("layer", "statement", "later"),
    [
        ("geometry", "from .tensor import Tensor", False),
        ("tensor", "from . import ops", False),
        ("optim.sgd", "from ..nn import Module", True),
        ("backends.numpy_backend", "from tinygrad_cnn.tensor import Tensor", False),
        ("nn.layers", "import tinygrad_cnn.backends.numpy_backend", True),
        ("ops.conv", "from .. import nn", True),
    ],
)
def test_the_check_finds_what_it_forbids(
    layer: str, statement: str, later: bool, tmp_path: Path
) -> None:
    file = tmp_path / "planted.py"
    file.write_text(f"def f():\n    {statement}\n" if later else f"{statement}\n")
    (found,) = imports(file, f"tinygrad_cnn.{layer}")
    name = layer_of(f"tinygrad_cnn.{layer}")
    assert found.later is later
    allowed = MAY_IMPORT[name] | (MAY_IMPORT_LATER.get(name, set()) if later else set())
    assert layer_of(found.module) not in allowed


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )


def test_import_is_silent_and_loads_no_heavy_package() -> None:
    heavy = ["numba", "llvmlite", "cupy", "matplotlib", "rich", "safetensors", "torch", "asyncio"]
    heavy += ["onnx", "google.protobuf"]
    done = run_python(
        "import sys, tinygrad_cnn\n"
        f"sys.exit(' '.join(name for name in {heavy} if name in sys.modules) or None)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_import_starts_no_backend_and_no_thread() -> None:
    done = run_python(
        "import threading, tinygrad_cnn.backend as b\n"
        "assert b._loaded == {}, b._loaded\n"
        "assert threading.active_count() == 1"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_all_is_exactly_the_public_names() -> None:
    import tinygrad_cnn as tg

    found = {**vars(tg), **{name: getattr(tg, name) for name in tg._LATER}}
    public = {
        name
        for name, value in found.items()
        if not name.startswith("_")
        and name != "annotations"
        # A submodule becomes an attribute by being imported from anywhere; it need not be listed.
        and not (isinstance(value, types.ModuleType) and name not in tg.__all__)
    }
    assert sorted(tg.__all__) == sorted(set(tg.__all__))
    assert set(tg.__all__) - {"__version__"} == public


def test_submodules_are_imported_when_asked_for() -> None:
    code = """
import sys, tinygrad_cnn as tg
assert not {"tinygrad_cnn.models", "tinygrad_cnn.data", "tinygrad_cnn.train"} & set(sys.modules)
print(tg.models.lenet5().__class__.__module__, tg.data.DATASETS["mnist"].name, tg.onnx.__name__)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split()[1:] == ["mnist", "tinygrad_cnn.io.onnx"]
    import tinygrad_cnn as tg

    with pytest.raises(AttributeError, match="no attribute 'modles'"):
        tg.modles  # noqa: B018


def test_no_path_of_a_developers_machine() -> None:
    pattern = re.compile(r"(?<![\w.])/(?:work|root|opt)/(?:main|shared|venv|brief|wheels|pypi)\b")
    generated = {"build", "dist", "__pycache__", "runs", "outputs", "venv"}
    wrong = []
    for file in ROOT.rglob("*"):
        *folders, name = file.relative_to(ROOT).parts
        if generated & set(folders) or any(
            folder != ".ci" and folder.startswith(".") or folder.endswith(".egg-info")
            for folder in folders
        ):
            continue
        if file.is_file() and file != Path(__file__).resolve():
            text = file.read_text(encoding="utf-8", errors="ignore")
            wrong += [f"{'/'.join((*folders, name))}: {found}" for found in pattern.findall(text)]
    assert wrong == []


def needs_torch(node: ast.AST) -> bool:
    """Whether a test skips itself where PyTorch is missing."""
    return any(
        isinstance(call, ast.Call) and ast.unparse(call).startswith("pytest.importorskip('torch'")
        for call in ast.walk(node)
    )


def test_every_comparison_with_pytorch_is_marked() -> None:
    # .ci/run selects them by the marker; without it they would be skipped there, unnoticed.
    wrong = []
    for file in sorted((ROOT / "tests").glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(ast.unparse(line) == "pytestmark = pytest.mark.torch" for line in tree.body):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marked = any("mark.torch" in ast.unparse(mark) for mark in node.decorator_list)
                if needs_torch(node) and not marked:
                    wrong.append(f"{file.name}:{node.lineno} {node.name}")
    assert wrong == []
