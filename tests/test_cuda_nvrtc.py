"""Every kernel compiled for real GPUs, with NVRTC and without a driver; the table of what it needs.

``python tests/test_cuda_nvrtc.py`` writes the table anew (tests/cuda_resources.tsv).
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tinygrad_cnn.backends.cuda import nvrtc
from tinygrad_cnn.backends.cuda.catalogue import Entry, catalogue
from tinygrad_cnn.backends.cuda.device import Module

TABLE = Path(__file__).parent / "cuda_resources.tsv"
Key = tuple[str, str, int]  # entry, kernel, architecture

needs_nvrtc = pytest.mark.skipif(
    nvrtc.find_library() is None, reason="NVRTC is not installed: extra cuda-check"
)
needs_nvdisasm = pytest.mark.skipif(
    nvrtc.disassembler() is None, reason="nvdisasm is not installed"
)


def measure(entries: list[Entry], arch: int) -> dict[Key, tuple[int, int, int, int, str]]:
    """(registers, spilled bytes, shared bytes, blocks, occupancy) of each kernel."""
    found = {}
    for e in entries:
        for kernel, need in nvrtc.resources(nvrtc.compile_module(e.module, arch)[1]).items():
            blocks, share = nvrtc.occupancy(arch, need, e.threads)
            found[e.name, kernel, arch] = (*need, blocks, f"{share:.0%}")
    return found


def recorded() -> dict[Key, tuple[int, int, int, int, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file, delimiter="\t") if not row[0].startswith("#")][1:]
    return {
        (r[0], r[1], int(r[2])): (int(r[3]), int(r[4]), int(r[5]), int(r[6]), r[7]) for r in rows
    }


@needs_nvrtc
@pytest.mark.parametrize("arch", nvrtc.ARCHITECTURES)
def test_no_kernel_needs_more_than_recorded(arch: int) -> None:
    """Compiles every kernel, allows no spill, and no more registers or shared memory and no fewer
    blocks than the table says (another NVRTC may take a tenth more registers)."""
    table, found = recorded(), measure(catalogue(), arch)
    assert {k for k in table if k[2] == arch} == set(found), "write the table anew"
    slack = (
        1.0 if TABLE.read_text(encoding="utf-8").startswith(f"# NVRTC {nvrtc.version()}\n") else 1.1
    )
    worse = {}
    for key, now in found.items():
        before = table[key]
        if (
            now[0] > before[0] * slack
            or now[1] > before[1]
            or now[2] > before[2]
            or (slack == 1 and now[3] < before[3])
        ):
            worse[key] = (before, now)
    assert not worse
    assert not {k: v for k, v in found.items() if v[1]}, "registers spill to memory"


@needs_nvrtc
def test_every_kernel_file_is_in_the_catalogue() -> None:
    folder = Path(nvrtc.__file__).parent / "kernels"
    used = {name for e in catalogue() for name, _ in e.module.parts}
    assert used == {path.name for path in folder.glob("*.cu")}


@needs_nvrtc
@needs_nvdisasm
@pytest.mark.parametrize(
    "e", [e for e in catalogue() if e.name.startswith(("matmul ", "conv_"))], ids=lambda e: e.name
)
def test_inner_loops_multiply_much_and_load_wide(e: Entry) -> None:
    """Of the inner loop a thread's step loads TM + TN numbers in vectors of four for TM·TN
    multiply-adds: 8 FFMA for each LDS.128 with 4×4, 16 with 8×8; and nothing goes to local
    memory."""
    sizes = {k: int(v) for k, v in e.module.defines if v.isdigit()}
    (counts,) = nvrtc.instruction_counts(nvrtc.compile_module(e.module, 80)[0]).values()
    fused = "DFMA" if ("T", "double") in e.module.defines else "FFMA"
    width = 2 if fused == "DFMA" else 4
    assert counts[fused] == sizes["BK"] * sizes["TM"] * sizes["TN"]
    assert counts["LDS.128"] == sizes["BK"] * (sizes["TM"] + sizes["TN"]) // width
    assert not counts.get("LDL") and not counts.get("STL") and not counts.get("LDS")
    if e.name.startswith("matmul"):
        assert counts["LDG.128"] >= 2


@needs_nvrtc
def test_errors_carry_file_and_line() -> None:
    broken = Module(
        (("a.cu", ""), ("b.cu", 'extern "C" __global__ void k(float* x) {\n  y = 1;\n}'))
    )
    with pytest.raises(
        nvrtc.CompileError, match=r"b\.cu\(2\): error: identifier \"y\" is undefined"
    ):
        nvrtc.compile_module(broken, 80)


def test_occupancy_by_hand() -> None:
    """sm_80 has 65536 registers: 128 for each of 256 threads leave 2 blocks, a quarter."""
    need = nvrtc.Resources
    assert nvrtc.occupancy(80, need(128, 0, 0), 256) == (2, 0.25)
    assert nvrtc.occupancy(80, need(32, 0, 0), 256) == (8, 1.0)
    assert nvrtc.occupancy(75, need(32, 0, 32 * 1024), 256) == (2, 0.5)
    assert nvrtc.occupancy(86, need(16, 0, 0), 32) == (16, 16 / 48)


def write_table() -> None:
    lines = [
        f"# NVRTC {nvrtc.version()}",
        "entry\tkernel\tsm\tregisters\tspilled\tshared\tblocks\toccupancy",
    ]
    for arch in nvrtc.ARCHITECTURES:
        for key, values in measure(catalogue(), arch).items():
            lines.append("\t".join(map(str, (*key, *values))))
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_table()
