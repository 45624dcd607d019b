"""One representative -D set of each kernel: what the compile check, the resource table and the
mutation test go through."""

from __future__ import annotations

from typing import Any, NamedTuple

from .device import Module, defines_key
from .elementwise import FORMULAS
from .host import c_lowest, kernel_text
from .products import TILES


class Entry(NamedTuple):
    """A module under a short name; ``threads`` is the block size its kernels are launched with."""

    name: str
    module: Module
    threads: int


def entry(
    name: str, files: list[str], threads: int = 256, fmad: bool = True, **defines: Any
) -> Entry:
    parts = tuple((file, kernel_text(file)) for file in files)
    return Entry(name, Module(parts, defines_key(defines), fmad), threads)


def catalogue() -> list[Entry]:
    """All kernel files; the tiled ones once a tile shape and layout."""
    entries = []
    for name in ("add", "exp", "power", "relu_grad"):
        formula = FORMULAS[name]
        text = formula if isinstance(formula, str) else formula[0]
        entries.append(entry(f"map {name}", ["map.cu"], T="float", R="float", F=text, REAL=1))
    entries += [
        entry("where", ["where.cu"], T="float"),
        entry("half", ["half.cu"]),
        entry("reduce sum", ["reduce.cu"], T="float", ACC="float", MERGE="p + q", START="0"),
        entry("arg", ["arg.cu"], T="float", BETTER="p > q"),
        entry("scan", ["scan.cu"], T="float", ACC="float"),
        entry("sort", ["sort.cu"], T="float"),
        entry("index", ["index.cu"], T="float"),
        entry("random", ["random.cu"], fmad=False, T="float"),
        entry(
            "pool",
            ["window.cu", "pool.cu"],
            T="float",
            W="unsigned char",
            LEAST=c_lowest("float32"),
        ),
        entry("batch norm", ["batch_norm.cu"], 128, T="float"),
        entry("softmax", ["softmax.cu"], 128, T="float"),
        entry("optim", ["optim.cu"], T="float"),
        entry("matmul16", ["matmul16.cu"], T="float"),
        entry(
            "conv direct",
            ["window.cu", "conv_direct.cu"],
            T="float",
            FIXED_I0=1,
            FIXED_I1=5,
            FIXED_I2=5,
        ),
    ]
    for tile, sizes in TILES.items():
        threads = sizes["BM"] // sizes["TM"] * (sizes["BN"] // sizes["TN"])
        for layout, (along_m, along_n) in {"NN": (0, 1), "NT": (0, 0), "TN": (1, 1)}.items():
            entries.append(
                entry(
                    f"matmul {tile} {layout}",
                    ["tile.cu", "matmul.cu"],
                    threads,
                    T="float",
                    **sizes,
                    VA=4,
                    VB=4,
                    ALONG_M=along_m,
                    ALONG_N=along_n,
                )
            )
        if tile == "large":
            continue
        for name in ("conv_forward", "conv_input_grad", "conv_weight_grad"):
            entries.append(
                entry(
                    f"{name} {tile}",
                    ["window.cu", "tile.cu", f"{name}.cu"],
                    threads,
                    T="float",
                    **sizes,
                    ALONG_M=0,
                    ALONG_N=int(name != "conv_weight_grad"),
                    FIXED_I0=1,
                    FIXED_I1=3,
                    FIXED_I2=3,
                )
            )
    entries.append(
        entry(
            "matmul medium NN double",
            ["tile.cu", "matmul.cu"],
            256,
            T="double",
            **TILES["medium"],
            VA=2,
            VB=2,
            ALONG_M=0,
            ALONG_N=1,
        )
    )
    return entries
