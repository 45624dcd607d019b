"""docs/lecture-notes.md and demos/README.md name every row and demo, and only tests that exist."""

from __future__ import annotations

import functools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "lecture-notes.md").read_text(encoding="utf-8")
DEMOS = (ROOT / "demos" / "README.md").read_text(encoding="utf-8")
ROWS = {"S0": 14, "S1": 26, "S2": 41, "S3": 16, "S4": 19}  # rows of the five notes
STATES = ("works", "recipe", "other form", "text only", "out of scope")


@functools.cache
def existing_tests() -> set[str]:
    """Every test function, without running or importing any."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py")]
    return {name for text in texts for name in re.findall(r"^def (test_\w+)\(", text, re.M)}


def table() -> dict[str, list[str]]:
    """Cells of the rows by id, the small table of slips aside."""
    lines = PAGE.split("\n## S0: ")[1].splitlines()
    rows = [re.split(r" \| ", line.strip("| ")) for line in lines if re.match(r"\| S\d-", line)]
    assert len(rows) == len({row[0] for row in rows})
    return {row[0]: row for row in rows}


def named_in(text: str) -> set[str]:
    return set(re.findall(r"`(test_\w+)`", text))


def test_every_row_is_listed_in_order() -> None:
    expected = [f"{note}-{i}" for note, count in ROWS.items() for i in range(1, count + 1)]
    assert list(table()) == expected
    assert all(len(row) == 6 and row[5] in STATES for row in table().values())


def test_every_test_that_the_page_names_exists() -> None:
    named = named_in(PAGE)
    assert len(named) > 100 and named <= existing_tests()


def test_every_test_of_a_row_is_named_there() -> None:
    """A row's tests carry its id: test_S2_16_… belongs to S2-16."""
    rows = table()
    for name in existing_tests():
        for note, number in re.findall(r"_(S\d)_(\d+)(?=_)", name):
            row = f"{note}-{number}"
            assert name in named_in(rows[row][4]), f"add `{name}` to {row} of the page"


def test_states_are_shown_and_counted() -> None:
    rows = table().values()
    for row in rows:
        if row[5] == "works":
            assert named_in(row[4]), f"{row[0]} works, says the page, and names no test"
        if row[5] == "recipe":
            assert "(../demos/" in row[4], f"{row[0]} is a recipe and names no program"
    counts = {state: sum(row[5] == state for row in rows) for state in STATES}
    said = ", ".join(f"{count} {state}" for state, count in counts.items())
    assert f"States of the {len(rows)} rows: {said}." in PAGE


def test_slips_are_stated_twice() -> None:
    """In the rows, and together above them."""
    summary = set(re.findall(r"^\| (S\d-\d+) \|", PAGE.split("\n## S0: ")[0], re.M))
    assert summary == {row[0] for row in table().values() if "**slip**" in row[3]}


def test_every_demo_is_listed() -> None:
    listed = re.findall(r"^\| \[(\w+\.py)\]\((\w+\.py)\)", DEMOS, re.M)
    assert all(name == target for name, target in listed)
    programs = {path.name for path in (ROOT / "demos").glob("*.py")}
    assert sorted(name for name, _ in listed) == sorted(programs)


def test_commands_of_the_demos_exist() -> None:
    for command in re.findall(r"`python (demos/\w+\.py[^`]*)`", DEMOS):
        for word in command.split():
            if word.startswith("demos/"):
                assert (ROOT / word).is_file(), command
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", DEMOS)
    assert all((ROOT / "demos" / link).exists() for link in links)
