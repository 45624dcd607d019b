"""What the documents show is true: examples and doctests are executed, links lead to files."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_cnn

pytestmark = pytest.mark.usefixtures("same_backend_afterwards")
ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
IMPORTS_MORE = ("tinygrad_cnn.backends.cupy",)  # needs an optional package to be imported at all


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def section(title: str) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_readme_example_prints_what_the_readme_says(backend: str) -> None:
    example, shown = blocks(PAGES[0], "python")[0], blocks(PAGES[0], "text")[0]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "TINYGRAD_CNN_BACKEND": backend, "PYTHONIOENCODING": "utf-8"},
    )
    assert (done.stdout, done.stderr) == (shown, "")
    assert len([line for line in example.splitlines() if line.strip()]) <= 20


@pytest.mark.parametrize("title", ["Train LeNet", "Run the tests"])
def test_first_command_of_a_section_does_all_the_setup(title: str) -> None:
    commands = re.findall(r"^```bash\n(.*?)^```", section(title), re.DOTALL | re.MULTILINE)[0]
    assert len(commands.splitlines()) == 1
    venv, install, last = commands.strip().split(" && ")
    assert venv == "python3 -m venv .venv"
    assert install.startswith(".venv/bin/python -m pip install -e ")
    script = last.split()[1]
    assert script == "-m" or (ROOT / script).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize(
    "page", [p for p in PAGES if ">>>" in p.read_text("utf-8")], ids=lambda p: p.name
)
def test_sessions_in_documents(page: Path) -> None:
    text = "\n".join(b for b in blocks(page, "python") if ">>>" in b)
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    report: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert result.failed == 0, "".join(report)
    assert result.attempted > 5


def test_folder_table_names_every_folder() -> None:
    named = set(re.findall(r"^\| `(\w+)/`", section("What lies where"), re.MULTILINE))
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8"
    ).stdout.splitlines()
    if not tracked:
        pytest.skip("not a git checkout")
    assert named == {p.split("/")[0] for p in tracked if "/" in p and not p.startswith(".")}


def modules() -> list[str]:
    found = pkgutil.walk_packages(tinygrad_cnn.__path__, "tinygrad_cnn.")
    return ["tinygrad_cnn", *(m.name for m in found if not m.name.startswith(IMPORTS_MORE))]


@pytest.mark.parametrize("name", modules())
def test_doctests(name: str) -> None:
    if "numba" in name:
        pytest.importorskip("numba")
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_there_are_doctests() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    public = [importlib.import_module(f"tinygrad_cnn{m}") for m in ("", ".construct", ".autograd")]
    assert all(any(t.examples for t in finder.find(module)) for module in public)
