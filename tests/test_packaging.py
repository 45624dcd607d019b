"""pyproject.toml says what the tree holds, and the wheel holds the package and nothing else."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {"tinygrad_cnn": ROOT / "tinygrad_cnn", "tinygrad_cnn.backends": ROOT / "backends"}


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def packages_on_disk() -> set[str]:
    """Every folder with Python files under the two source folders, by its import name."""
    found = set()
    for name, folder in SOURCES.items():
        for file in folder.rglob("*.py"):
            inside = file.parent.relative_to(folder).parts
            found.add(".".join((name, *inside)))
    return found


def test_packages_are_the_folders_on_disk(pyproject: dict[str, Any]) -> None:
    listed = pyproject["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(packages_on_disk())


def test_every_package_has_an_init() -> None:
    missing = [
        str(file.parent.relative_to(ROOT))
        for folder in SOURCES.values()
        for file in folder.rglob("*.py")
        if not (file.parent / "__init__.py").is_file()
    ]
    assert missing == []


def test_mapping_is_the_one_the_tests_assume(pyproject: dict[str, Any]) -> None:
    mapping = pyproject["tool"]["setuptools"]["package-dir"]
    assert {name: ROOT / folder for name, folder in mapping.items()} == SOURCES


def test_versions_agree(pyproject: dict[str, Any]) -> None:
    import tinygrad_cnn

    assert tinygrad_cnn.__version__ == pyproject["project"]["version"]
    assert pyproject["project"]["version"] in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_requirements_are_ranges(pyproject: dict[str, Any]) -> None:
    extras = pyproject["project"]["optional-dependencies"].values()
    for requirement in [*pyproject["project"]["dependencies"], *sum(extras, [])]:
        assert ">=" in requirement and "==" not in requirement, requirement


@pytest.mark.parametrize("heading", ["Train LeNet", "Run the tests"])
def test_readme_has_one_command_under_heading(heading: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    assert section is not None
    blocks = re.findall(r"^```\w*\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    assert "-m venv .venv" in blocks[0] and "pip install" in blocks[0]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel built from a copy of the sources, so that the checkout stays as it is."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip('setuptools is not installed (pip install -e ".[dev]")')
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for folder in SOURCES.values():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(folder, tree / folder.name, ignore=ignored)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, str(out)], cwd=tree, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return zipfile.ZipFile(built)


def test_wheel_holds_every_source_and_data_file(wheel: zipfile.ZipFile) -> None:
    expected = {
        "/".join((*name.split("."), *file.relative_to(folder).parts))
        for name, folder in SOURCES.items()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == expected


def test_wheel_holds_one_top_level_package(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name}
    assert tops == {"tinygrad_cnn"}


def test_installed_wheel_imports_the_backends(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import tinygrad_cnn, tinygrad_cnn.backends.numpy_backend as b\n"
        "print(tinygrad_cnn.__file__); print(b.__file__)"
    )
    # -S leaves out site-packages' hooks, among them that of an editable install; NumPy is put back.
    numpy_folder = str(Path(importlib.util.find_spec("numpy").origin).parents[1])  # type: ignore
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.append({numpy_folder!r})\n" + code,
         str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(tmp_path)) for line in done.stdout.split()), done.stdout
