#!/usr/bin/env python3
"""Writes a type, a rank and dimensions into a folder, as seeds for fuzz_size: ordinary shapes, and products at the ends of what fits."""
import pathlib
import struct
import sys

SHAPES = {
    "scalar": [], "ordinary": [8, 3, 224, 224], "empty": [3, 0, 1 << 40], "rank8": [2] * 8, "rank9": [2] * 9, "least": [-1], "lowest": [-1 << 63],
    "most": [1 << 40, 64], "wraps": [1 << 62, 4], "product": [1 << 31, 1 << 31, 1 << 31], "large": [1 << 46], "larger": [(1 << 46) + 1],
    "highest": [(1 << 63) - 1],
}

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name, dims in SHAPES.items():
    for kind in range(0, 32, 5):
        (folder / f"{name}-{kind}").write_bytes(bytes([kind, len(dims)]) + struct.pack(f"<{len(dims)}q", *dims))
