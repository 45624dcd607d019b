"""A report as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .report import NOTICE

if TYPE_CHECKING:
    from .report import LaunchRow, Report


def render(report: Report) -> str:
    """Launches one below the other, then the findings."""
    on_gpu = any(row.device == "cupy" for row in report.launches)
    lines = ["Launched on a GPU; accesses are traced on cudasim only." if on_gpu else NOTICE]
    for row in report.launches:
        lines += ["", _head(row), *_figures(row), *_sites(row)]
    if report.mode == "check":
        lines += ["", f"{len(report.findings)} findings in {len(report.launches)} launches"]
    lines += [f"  {finding}" for finding in report.findings]
    return "\n".join(lines)


def _head(row: LaunchRow) -> str:
    shared = f", {row.shared_mem} bytes of dynamic shared memory" if row.shared_mem else ""
    return f"{row.kernel}: grid {row.grid}, block {row.block}{shared}"


def _figures(row: LaunchRow) -> list[str]:
    lines = []
    if row.registers is not None and row.occupancy is not None:
        lines.append(
            f"  {row.registers} registers a thread, {row.static_shared} bytes of shared memory"
            f" (sm_{row.arch}: occupancy {row.occupancy:.0%})"
        )
    if row.flops:
        lines.append(f"  {row.flops:.4g} floating-point operations")
    if row.bytes_moved is not None:
        ratio = (
            f", {row.flops / row.bytes_moved:.2f} operations a byte"
            if row.flops and row.bytes_moved
            else ""
        )
        lines.append(
            f"  {row.bytes_moved:.4g} bytes of global memory in sectors (without caches){ratio}"
        )
    if row.simd_efficiency is not None:
        lines.append(
            f"  SIMD efficiency {row.simd_efficiency:.2f}; traced blocks: {row.traced_blocks}"
        )
    return lines


def _sites(row: LaunchRow) -> list[str]:
    lines = []
    for s in row.sites:
        what = (
            f"  {s.place!s:<22} {s.action:<6} {s.array:<10} {s.bytes:>2} B"
            f"  {s.requests:>7} requests  {s.lanes:4.1f} lanes"
        )
        if s.space == "global":
            lines.append(
                f"{what}  {s.sectors:5.2f} sectors (ideal {s.ideal_sectors:.2f}, "
                f"{s.efficiency:.0%})"
            )
        else:
            lines.append(f"{what}  bank conflict degree {s.bank_degree:.2f}")
    return lines
