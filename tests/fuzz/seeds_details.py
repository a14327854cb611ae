#!/usr/bin/env python3
"""Writes details.json files into a folder, as seeds for fuzz_details; the first byte is the index that is asked for."""
import json
import pathlib
import sys

LAYERS = [{"index": i, "weight": {"scales": [0.5, 1e-3], "histogram_before": {"min": -1, "max": 1, "counts": [1, 2]}}, "name": 'a "]}\\'} for i in range(3)]

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name, content in {"list": LAYERS, "object": {"version": "1", "layers": LAYERS, "more": [1]}, "empty": [], "nested": [[LAYERS]]}.items():
    for index in b"\0\2":
        (folder / f"{name}-{index}").write_bytes(bytes([index]) + json.dumps(content).encode())
