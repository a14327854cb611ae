#!/usr/bin/env python3
"""Writes results of looking into uploads into a folder, as seeds for fuzz_inventory: a model's, data sets', a verdict and a plan (docs/job.md)."""
import json
import pathlib
import sys

MODEL, DATA, VERDICT, PLAN = b"\0", b"\1", b"\2", b"\3"
ARRAY = {"name": "x", "dtype": "float32", "shape": [8, 3, 224, 224], "min": -1.5, "max": 2.0}
ESTIMATE = {"memory_bytes": 1 << 28, "budget_bytes": 1 << 30, "fixed_bytes": 1 << 20, "samples": 128, "threads": 1, "seconds": 12.5}
PROBLEM = {"level": "error", "code": "model.invalid", "pointer": "/model_id", "where": "node", "detail": "text"}
SEEDS = {
    "onnx": (MODEL, {"format": "onnx", "ops": {"MatMul": 3}, "inputs": [ARRAY], "layers": [{"name": "fc", "k": 4, "n": 2}]}),
    "other": (MODEL, {"format": "x" * 40}), "nothing": (MODEL, {}), "list": (MODEL, []),
    "npz": (DATA, {"format": "npz", "arrays": [ARRAY]}), "images": (DATA, {"format": "images", "arrays": [ARRAY], "labels": 8}),
    "wide": (DATA, {"format": "images", "arrays": [{"shape": [1 << 62, 1 << 62, "a", None]}]}),
    "ok": (VERDICT, {"ok": True, "samples": 4, "checks": []}),
    "plan": (PLAN, {"estimate": ESTIMATE, "problems": [], "layers": []}), "blocked": (PLAN, {"estimate": ESTIMATE, "problems": [PROBLEM]}),
    "large": (PLAN, {"estimate": {**ESTIMATE, "memory_bytes": 1 << 40}, "problems": []}),
    "larger": (PLAN, {"estimate": {**ESTIMATE, "memory_bytes": (1 << 63) - 1, "fixed_bytes": -1 << 62, "samples": 1 << 62}}),
}

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name, (kind, result) in SEEDS.items():
    (folder / name).write_bytes(kind + json.dumps(result).encode())
