"""What a trace shows: coalescing, bank conflicts, divergence, and the steps of one thread.

A trace lists the accesses of each thread. What a GPU's warp does at once is put together again: the
k-th execution of one instruction by each lane, between two barriers, is taken as one request.
Global memory moves in sectors of 32 bytes: a request of 32 neighbouring floats needs 4. Shared
memory has 32 banks of 4 bytes: a request takes as many turns as the busiest bank has different
words. The figures belong to the source as this machine's compiler translated it; nvcc may merge
accesses further.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..device import Launch
from ..report import LaunchRow
from ..source import DTYPES, shared_declarations
from .findings import Place
from .library import BLOCK_ENTRY, LOAD, STORE

Rows = np.ndarray[Any, Any]
SECTOR, BANKS, WORD = 32, 32, 4
DYNAMIC, FIRST_SHARED = (
    127,
    127,
)  # how check.cpp numbers ranges in a trace: 127 dynamic, 128 + k static


@dataclass
class Site:
    """All requests of one access in the source."""

    place: Place
    action: str  # load, store or atomic
    space: str  # global or shared
    array: str
    bytes: int  # of one access
    requests: int
    lanes: float  # active lanes a request
    sectors: float  # global: sectors a request
    ideal_sectors: float  # global: sectors if the bytes lay together
    bank_degree: float  # shared: turns a request, 1 is free of conflicts

    @property
    def efficiency(self) -> float:
        """Useful part of the bytes moved from global memory."""
        return self.ideal_sectors / self.sectors if self.sectors else 1.0


@dataclass
class Step:
    """One access of one thread, in the order in which it happened."""

    place: Place
    action: str
    array: str
    index: tuple[int, ...]
    value: Any
    barriers: int  # passed by the block before it

    def __str__(self) -> str:
        sign = "→" if self.action == "load" else "="
        where = "".join(f"[{i}]" for i in self.index)
        return (
            f"{self.place!s:<22} after barrier {self.barriers}:  {self.action:<6} "
            f"{self.array}{where} {sign} {self.value}"
        )


class Trace:
    """The recorded accesses of a launch with the names of what they touch."""

    def __init__(
        self,
        launch: Launch,
        rows: Rows,
        buffers: list[tuple[str, int]],
        ranges: list[tuple[int, int, int, bool]],
        shared: list[tuple[str, int, int, int]],
        place: Callable[[int], Place],
        order: tuple[int, int],
    ) -> None:
        self.launch, self.rows, self.buffers, self.ranges = launch, rows, buffers, ranges
        self.shared, self.place, self.order = shared, place, order
        self.accesses = rows[rows["kind"] != BLOCK_ENTRY]

    def fill(self, row: LaunchRow) -> None:
        """Write the figures of this trace into the row of its launch."""
        row.trace, row.sites = self, self.sites()
        row.simd_efficiency = self.simd_efficiency()
        row.traced_blocks = int(self.rows["block"].max()) + 1 if len(self.rows) else 0
        moved = sum(s.sectors * s.requests * SECTOR for s in row.sites if s.space == "global")
        row.bytes_moved = moved * int(np.prod(row.grid)) / max(row.traced_blocks, 1)

    # -- figures ----------------------------------------------------------------------------------
    def _requests(self) -> np.ndarray[Any, Any]:
        """The request number of each access: lanes of a warp at the k-th execution of an
        instruction.
        """
        a = self.accesses
        order = np.lexsort((np.arange(len(a)), a["pc"], a["phase"], a["thread"], a["block"]))
        s = a[order]
        new = np.ones(len(a), bool)
        for name in ("pc", "phase", "thread", "block"):
            if name == "pc":
                new[1:] = s["pc"][1:] != s["pc"][:-1]
            else:
                new[1:] |= s[name][1:] != s[name][:-1]
        starts = np.flatnonzero(new)
        times = np.empty(len(a), np.int64)
        times[order] = np.arange(len(a)) - np.repeat(starts, np.diff(np.append(starts, len(a))))
        keys = np.stack(
            [a["block"], a["thread"] // 32, a["phase"], a["pc"].astype(np.int64), times], axis=1
        )
        return np.unique(keys.astype(np.int64), axis=0, return_inverse=True)[1].reshape(-1)

    def sites(self) -> list[Site]:
        """One row for each place, action and array, in the order of the source."""
        if not len(self.accesses):
            return []
        a, request = self.accesses, self._requests()
        keys, which = np.unique(
            np.stack([a["pc"].astype(np.int64), a["range"], a["kind"], a["bytes"]], 1),
            axis=0,
            return_inverse=True,
        )
        which = which.reshape(-1)
        merged: dict[Any, list[Site]] = {}
        for k, (pc, area, kind, size) in enumerate(keys):
            mine = which == k
            site = self._site(
                a[mine], request[mine], self.place(int(pc)), int(area), int(kind), int(size)
            )
            merged.setdefault((site.place, site.action, site.array, site.bytes), []).append(site)
        return [_together(group) for _, group in sorted(merged.items(), key=lambda item: item[0])]

    def _site(self, a: Rows, request: Any, place: Place, area: int, kind: int, size: int) -> Site:
        _, request = np.unique(request, return_inverse=True)
        count = int(request.max()) + 1
        address = a["address"].astype(np.int64) + self._shift(area)
        shared = area >= FIRST_SHARED
        lane = a["thread"].astype(np.int64) % 32
        sectors = ideal = degree = 0.0
        if shared:
            degree = _bank_degree(request, lane, address, size)
        else:
            touched = {
                (r, s) for r, s in zip(request.tolist(), (address // SECTOR).tolist(), strict=True)
            }
            touched |= {
                (r, s)
                for r, s in zip(
                    request.tolist(), ((address + size - 1) // SECTOR).tolist(), strict=True
                )
            }
            sectors = len(touched) / count
            places = np.unique(np.stack([request, address], 1), axis=0)[:, 0]
            ideal = float(np.mean(-(-np.bincount(places, minlength=count) * size // SECTOR)))
        action = "load" if kind == LOAD else "store" if kind == STORE else "atomic"
        return Site(
            place,
            action,
            "shared" if shared else "global",
            self._name(area),
            size,
            count,
            len(a) / count,
            sectors,
            ideal,
            degree,
        )

    def _shift(self, area: int) -> int:
        """Arrays of the caller count as aligned to 256 bytes, as CUDA's are."""
        if area >= len(self.ranges):
            return 0
        low = self.ranges[area][0]
        return -low % 256 if low % 256 in range(16, 256, 16) and not self._owned(area) else 0

    def _owned(self, area: int) -> bool:
        """Is the array part of memory that this device allocated?"""
        from .device import Memory

        low = self.ranges[area][0]
        for arg in self.launch.args:
            if isinstance(arg, np.ndarray) and np.lib.array_utils.byte_bounds(arg)[0] == low:
                base = arg
                while isinstance(base, np.ndarray) and not isinstance(base, Memory):
                    base = base.base  # type: ignore[assignment]
                return isinstance(base, Memory)
        return False

    def _name(self, area: int) -> str:
        if area < FIRST_SHARED:
            return self.buffers[area][0] if area < len(self.buffers) else "?"
        return "dynamic shared" if area == DYNAMIC else self.shared[area - FIRST_SHARED - 1][0]

    def simd_efficiency(self) -> float:
        """Active lanes over lanes occupied, in basic blocks: 1 when no warp diverges."""
        b = self.rows[self.rows["kind"] == BLOCK_ENTRY]
        if not len(b):
            return 1.0
        keys = np.stack(
            [b["block"], b["thread"] // 32, b["phase"], b["pc"].astype(np.int64), b["thread"] % 32],
            1,
        )
        lanes, times = np.unique(keys.astype(np.int64), axis=0, return_counts=True)
        warps, which = np.unique(lanes[:, :4], axis=0, return_inverse=True)
        longest = np.zeros(len(warps), np.int64)
        np.maximum.at(longest, which.reshape(-1), times)
        return float(times.sum() / (32 * longest.sum()))

    # -- replay -----------------------------------------------------------------------------------
    def steps(self, block: tuple[int, int, int], thread: tuple[int, int, int]) -> list[Step]:
        """The accesses of one thread of a traced block. Raises ValueError if it was not traced."""
        (gx, gy, gz), (bx, by, _) = self.launch.grid, self.launch.block
        wanted = block[0] + gx * (block[1] + gy * block[2])
        step, shift = self.order
        serials = np.unique(self.accesses["block"])
        serial = next(
            (s for s in serials if (int(s) * step + shift) % (gx * gy * gz) == wanted), None
        )
        if serial is None:
            raise ValueError(
                f"block {block} was not traced: trace more blocks with report(blocks=...)"
            )
        number = thread[0] + bx * (thread[1] + by * thread[2])
        mine = self.accesses[
            (self.accesses["block"] == serial) & (self.accesses["thread"] == number)
        ]
        first = int(self.accesses["phase"][self.accesses["block"] == serial].min())
        return [self._step(row, first) for row in mine]

    def _step(self, row: Any, first_phase: int) -> Step:
        area = int(row["range"])
        code, base, shape = self._layout(area)
        dtype = DTYPES.get(code, np.dtype(np.float32))
        item = min(dtype.itemsize, int(row["bytes"]))
        element = (int(row["address"]) - base) // max(item, 1)
        inside = len(shape) > 1 and element < int(np.prod(shape))
        index = tuple(int(i) for i in np.unravel_index(element, shape)) if inside else (element,)
        raw = int(row["value"]).to_bytes(8, "little")[: dtype.itemsize]
        value = np.frombuffer(raw, dtype)[0].item() if len(raw) == dtype.itemsize else raw
        action = "load" if row["kind"] == LOAD else "store" if row["kind"] == STORE else "atomic"
        return Step(
            self.place(int(row["pc"])),
            action,
            self._name(area),
            index,
            value,
            int(row["phase"]) - first_phase,
        )

    def _layout(self, area: int) -> tuple[str, int, tuple[int, ...]]:
        """(type letter, address, shape) of a traced array."""
        if area > DYNAMIC:
            _, base, _, number = self.shared[area - FIRST_SHARED - 1]
            module = self.launch.kernel.module
            text = module.parts[number // 1000][1]
            declared = shared_declarations(text, dict(module.defines))[number % 1000]
            return declared.code, base, declared.shape
        if area == DYNAMIC:
            return "f", int(self.accesses["address"][self.accesses["range"] == area].min()), ()
        name, low = self.buffers[area][0].split(" / ")[0], self.ranges[area][0]
        for parameter, a in zip(
            self.launch.kernel.signature.parameters, self.launch.args, strict=True
        ):
            if parameter.name == name:
                return parameter.code, low, a.shape if a.flags.c_contiguous else ()
        return "f", low, ()


def _bank_degree(request: Any, lane: Any, address: Any, size: int) -> float:
    """Turns a request: lanes with 8 or 16 bytes are served in halves and quarters of a warp."""
    part = lane // max(1, 32 * WORD // max(size, WORD))
    group = request * 32 + part
    most: dict[int, int] = {}
    words = np.concatenate(
        [np.stack([group, address // WORD + w], 1) for w in range(max(1, size // WORD))]
    )
    words = np.unique(words, axis=0)
    keys, counts = np.unique(
        np.stack([words[:, 0], words[:, 1] % BANKS], 1), axis=0, return_counts=True
    )
    for g, c in zip(keys[:, 0].tolist(), counts.tolist(), strict=True):
        most[g] = max(most.get(g, 0), c)
    return float(np.mean(list(most.values())))


def _together(group: list[Site]) -> Site:
    """Several instructions of one access in the source (an unrolled loop) as one row."""
    n = sum(s.requests for s in group)

    def mean(name: str) -> float:
        return float(sum(getattr(s, name) * s.requests for s in group)) / n

    g = group[0]
    return Site(
        g.place,
        g.action,
        g.space,
        g.array,
        g.bytes,
        n,
        mean("lanes"),
        mean("sectors"),
        mean("ideal_sectors"),
        mean("bank_degree"),
    )
