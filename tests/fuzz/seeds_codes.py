#!/usr/bin/env python3
"""Writes ranges, choices and floats into a folder, as seeds for fuzz_codes: ordinary ones, and those that floats have at their ends."""
import pathlib
import struct
import sys

INF, NAN, MOST, LEAST, DENORMAL = float("inf"), float("nan"), 3.4028234663852886e38, 1.1754943508222875e-38, 1.401298464324817e-45
FLOATS = {
    "ordinary": (-1.5, 2.0, [0.25 * i - 2 for i in range(16)]), "zero": (0.0, 0.0, [0.0, -0.0] * 4), "constant": (3.0, 3.0, [3.0] * 8),
    "most": (-MOST, MOST, [MOST, -MOST, MOST / 2, 1.0] * 2), "denormal": (-DENORMAL, LEAST, [DENORMAL, -DENORMAL, LEAST / 2, LEAST] * 2),
    "mixed": (DENORMAL, MOST, [MOST, DENORMAL, 1.0, -1.0] * 2),
    "infinite": (-INF, INF, [INF, -INF, 1.0, 0.0] * 2), "nan": (NAN, 1.0, [NAN, 1.0, -NAN, INF] * 2),
    "probabilities": (0.0, 1.0, [2.0 ** -i for i in range(16)]), "outlier": (-1e4, 1.0, [1e-3 * i for i in range(15)] + [-1e4]),
}

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for i, (name, (lo, hi, values)) in enumerate(FLOATS.items()):
    for bits, choices in ((4, i), (8, 128 + 31), (2, 15), (6, 128 + 28)):
        head = struct.pack("<ffBBB", lo, hi, bits - 2 + (choices & 128), (224 if bits in (4, 8) else 0) + i, choices)
        (folder / f"{name}-{bits}").write_bytes(head + struct.pack(f"<{len(values)}f", *values))
