#!/usr/bin/env python3
"""Writes lines of a child's event pipe into a folder, as seeds for fuzz_child_event: one of each kind (docs/job.md)."""
import json
import pathlib
import sys

SEEDS = [
    {"event": "stage", "stage": "calibrating"}, {"event": "progress", "done": 3, "total": 26}, {"event": "resumed", "sites": 2, "weights": 4},
    {"event": "layer", "index": 3, "row": {"name": "fc1", "op": "MatMul", "weight_sqnr_db": 18.5, "cosine": None, "bytes_after": 1 << 40}},
    {"event": "layer", "index": 0, "name": "fc1", "op": "MatMul", "weight_sqnr_db": 18.5}, {"event": "alive"},
    {"event": "warning", "code": "a.code", "detail": "text", "where": "node"}, {"event": "metric", "name": "top1", "float": 0.5, "quantized": 0.25, "samples": 8},
    {"event": "done", "files": ["model.onnx", "report.json"], "peak_bytes": 1000, "cpu_seconds": 1.5},
    {"event": "problem", "code": "model.unsupported_op", "where": "node", "detail": "text", "retryable": False},
]

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for i, line in enumerate(SEEDS):
    (folder / f"{i}-{line['event']}").write_text(json.dumps(line))
