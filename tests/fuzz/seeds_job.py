#!/usr/bin/env python3
"""Writes bodies of POST /v1/jobs into a folder, as seeds for fuzz_job: together they have every member."""
import json
import pathlib
import sys

SEEDS = {
    "least": {"type": "quantize", "model_id": "MODEL", "dataset_id": "DATA", "recipe": "repquant-w4a8"},
    "whole": {"type": "quantize", "model_id": "MODEL", "dataset_id": "DATA", "eval_dataset_id": "DATA", "priority": 3, "labels": {"run": "7"}, "seed": 1,
              "not_before": "2090-01-01T00:00:00Z", "deadline_s": 60, "max_attempts": 2, "webhook": {"url": "https://models.example/hook"},
              "recipe": {"extends": "minmax-w8a8", "exclude": ["head"], "overrides": [{"match": "/blocks.*/fc1", "weights": {"bits": 4}}]}},
    "dry": {"type": "quantize", "model_id": "MODEL", "dataset_id": "DATA", "recipe": "zeroquant-w4a8", "dry_run": True},
    "inspect": {"type": "inspect", "model_id": "MODEL"},
    "evaluate": {"type": "evaluate", "model_id": "MODEL", "eval_dataset_id": "DATA"},
    "wrong": {"type": 7, "model_id": None, "recipe": [], "labels": {"": 1}, "priority": 1e300, "deadline_s": -1},
}

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name, body in SEEDS.items():
    (folder / name).write_text(json.dumps(body))
