"""From a code address to a source line: a reader of ELF files' DWARF line tables (versions 2 to 4).

The line table is a small program for a state machine whose registers are an address, a file and a
line; running it lists (address, line) rows. Source: DWARF Debugging Information Format 4, section
6.2. Where the library is not an ELF file (macOS), every line is unknown.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from pathlib import Path


class LineTable:
    """Lines of one compiled library by offset from the start of its image."""

    def __init__(self, path: Path) -> None:
        rows = sorted(set(_rows(_section(path.read_bytes(), b".debug_line"))))
        self._addresses = [address for address, _ in rows]
        self._lines = [line for _, line in rows]

    def line(self, offset: int) -> int:
        """The line of the instruction at ``offset``; 0 when unknown."""
        i = bisect_right(self._addresses, offset) - 1
        return self._lines[i] if i >= 0 else 0


def _section(image: bytes, wanted: bytes) -> bytes:
    """A section's bytes of a 64-bit little-endian ELF file, empty when there is none."""
    if image[:6] != b"\x7fELF\x02\x01":
        return b""
    (table,) = struct.unpack_from("<Q", image, 40)
    entry, count, names = struct.unpack_from("<HHH", image, 58)
    headers = [struct.unpack_from("<IIQQQQ", image, table + i * entry) for i in range(count)]
    text = headers[names][4]
    for name, _, _, _, offset, size in headers:
        start = text + name
        if image[start : image.index(b"\0", start)] == wanted:
            return image[offset : offset + size]
    return b""


class _Reader:
    """A cursor over bytes."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def number(self, size: int, signed: bool = False) -> int:
        self.at += size
        return int.from_bytes(self.data[self.at - size : self.at], "little", signed=signed)

    def leb(self, signed: bool = False) -> int:
        """A variable-length number: seven bits a byte, low bits first."""
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value - (1 << shift) if signed and byte & 64 else value

    def text(self) -> bytes:
        end = self.data.index(b"\0", self.at)
        found, self.at = self.data[self.at : end], end + 1
        return found


def _rows(data: bytes) -> list[tuple[int, int]]:
    rows: list[tuple[int, int]] = []
    reader = _Reader(data)
    while reader.at < len(data):
        end = reader.number(4) + reader.at
        if reader.number(2) in (2, 3, 4):
            rows += _unit(reader, end)
        reader.at = end
    return rows


def _unit(r: _Reader, end: int) -> list[tuple[int, int]]:
    """Rows of one compilation unit that lie in kernel files (their names end in .cu)."""
    r.at -= 2
    version = r.number(2)
    program = r.number(4) + r.at
    least = r.number(1)
    r.at += (1 if version >= 4 else 0) + 1  # maximum operations an instruction; default_is_stmt
    line_base, line_range, opcode_base = r.number(1, True), r.number(1), r.number(1)
    lengths = [r.number(1) for _ in range(opcode_base - 1)]
    while r.text():  # directories
        pass
    files = [b""]
    while name := r.text():
        files.append(name)
        for _ in range(3):
            r.leb()
    r.at = program
    rows: list[tuple[int, int]] = []
    address, file, line = 0, 1, 1

    def row() -> None:
        kernel = file < len(files) and files[file].endswith(b".cu")
        rows.append((address, line if kernel else 0))

    while r.at < end:
        op = r.number(1)
        if op >= opcode_base:  # a special opcode advances both registers and emits a row
            op -= opcode_base
            address += op // line_range * least
            line += line_base + op % line_range
            row()
        elif op == 0:
            size = r.leb()
            stop = r.at + size
            extended = r.number(1)
            if extended == 1:
                rows.append((address, 0))
                address, file, line = 0, 1, 1
            elif extended == 2:
                address = r.number(8)
            r.at = stop
        elif op == 1:
            row()
        elif op == 2:
            address += r.leb() * least
        elif op == 3:
            line += r.leb(True)
        elif op == 4:
            file = r.leb()
        elif op == 8:
            address += (255 - opcode_base) // line_range * least
        elif op == 9:
            address += r.number(2)
        else:
            for _ in range(lengths[op - 1]):
                r.leb()
    return rows
