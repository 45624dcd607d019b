"""Findings of the check mode, in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

Dim = tuple[int, int, int]

KINDS = {
    1: "shuffle",
    2: "shuffle",
    3: "shuffle",
    4: "deadlock",
    5: "divergent-barrier",
    6: "exited-barrier",
    7: "race",
    8: "uninitialised-shared",
    9: "out-of-bounds",
    10: "misaligned",
    11: "const-write",
    12: "out-of-bounds",
    13: "division-by-zero",
    14: "bad-shift",
    15: "shared-size",
}
LINES_PER_FILE = 100_000  # a line number from the runtime is file·100000 + line


class Place(NamedTuple):
    """A line of a kernel's source; line 0 means unknown."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else "an unknown line"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a kernel, or with how it was launched.

    ``kind`` is one of KINDS' values or "launch"; ``count`` says how often it happened at this line.
    """

    kind: str
    message: str
    kernel: str
    line: int
    block: Dim
    thread: Dim
    file: str = "kernel.cu"
    count: int = 1
    other: Place | None = field(default=None)  # the other access of a race

    def __str__(self) -> str:
        times = f" ({self.count} times)" if self.count > 1 else ""
        where = f"{self.file}:{self.line}: " if self.line else ""
        return (
            f"{where}{self.kind} in {self.kernel}, block {self.block} thread {self.thread}: "
            f"{self.message}{times}"
        )


class Raw(NamedTuple):
    """A finding of the runtime with its lines and buffer already looked up."""

    kind: int
    place: Place
    other: Place
    block: Dim
    thread: Dim
    other_block: Dim
    other_thread: Dim
    buffer: str
    buffer_bytes: int
    size: int
    offset: int
    detail: int
    times: int


def describe(kernel: str, raw: Raw) -> Finding:
    """The finding as a sentence that names the place, the memory and, for a race, both threads."""
    return Finding(KINDS[raw.kind], _message(raw), kernel, raw.place.line, raw.block, raw.thread,
                   raw.place.file, raw.times, raw.other if raw.kind == 7 else None)  # fmt: skip


def _message(r: Raw) -> str:
    if r.kind == 1:
        return "the shuffle reads a lane that takes no part in it"
    if r.kind == 2:
        return "the calling lane is not in the mask of its own warp operation"
    if r.kind == 3:
        return (
            f"lanes of one warp meet at two warp operations: here and at {r.other}, or with other "
            "masks"
        )
    if r.kind == 4:
        waits = (
            f"; thread {r.other_thread} waits at __syncthreads() at {r.other}"
            if r.other.line
            else ""
        )
        return (
            f"the warp operation never completes: mask 0x{r.offset & 0xFFFFFFFF:08x} names "
            "lanes that do not come"
            f" ({r.detail} threads of the block have exited){waits}"
        )
    if r.kind == 5:
        return (
            f"this thread waits at __syncthreads() here, thread {r.other_thread} at another one at "
            f"{r.other}"
        )
    if r.kind == 6:
        return f"__syncthreads() is not reached by all threads: {r.detail} have already returned"
    if r.kind == 7:
        did = ("reads what", "overwrites what", "overwrites what")[r.detail]
        done = ("wrote", "wrote", "read")[r.detail]
        same = r.block == r.other_block
        who = f"thread {r.other_thread}" + ("" if same else f" of block {r.other_block}")
        order = "no barrier between" if same else "blocks of one launch have no order"
        return (
            f"data race on {r.buffer} at byte {r.offset}: {did} {who} {done} at {r.other}; {order}"
        )
    if r.kind == 8:
        return f"reads {r.buffer} at byte {r.offset}, which no thread of this block has written"
    if r.kind == 9:
        verb = ("reads", "writes", "updates")[min(r.detail, 2)]
        if r.offset < 0:
            where = f"{-r.offset} bytes before the start of {r.buffer}"
        else:
            where = f"at byte {r.offset} of {r.buffer}, which has {r.buffer_bytes}"
        return f"{verb} {r.size} bytes {where}"
    if r.kind == 10:
        return (
            f"an access of {r.size} bytes at byte {r.offset} of {r.buffer} is not aligned to "
            "its size"
            if r.size
            else "a pointer is not aligned to the type it points to"
        )
    if r.kind == 11:
        return f"writes to {r.buffer}, a pointer to const"
    return {
        12: "an array index is outside its array",
        13: "integer division by zero",
        14: "shift by a negative amount or by the type's width or more",
        15: f"static shared memory of {r.offset} bytes exceeds 49152 bytes a block",
    }[r.kind]
