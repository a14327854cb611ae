#!/usr/bin/env python3
"""Writes manifests and changes of a database into a folder, as seeds for fuzz_backup; the changes are those of fuzz_state."""
import json
import pathlib
import sys

from seeds_state import SEEDS

WHOLE = {"format": "repquant-backup-1", "made_at": "2026-01-02T03:04:05Z", "version": "0.1.0",
         "database": {"digest": "sha256:" + "0a" * 32, "bytes": 4096}, "blobs": {"count": 1, "bytes": 5}}
MANIFESTS = {
    "whole": WHOLE, "newer": {**WHOLE, "format": "repquant-backup-2"}, "format": {**WHOLE, "format": 1},
    "least": {"format": WHOLE["format"]}, "list": [WHOLE],
    "digest": {**WHOLE, "database": {"digest": "sha256:../../x", "bytes": 1}}, "negative": {**WHOLE, "database": {**WHOLE["database"], "bytes": -1}},
    "fraction": {**WHOLE, "database": {**WHOLE["database"], "bytes": 1.5}}, "deep": {**WHOLE, "more": [[[[[[[[1]]]]]]]]},
}

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name, manifest in MANIFESTS.items():
    (folder / f"manifest-{name}").write_bytes(b"\0" + json.dumps(manifest).encode())
for name, seed in SEEDS.items():
    (folder / f"database-{name}").write_bytes(b"\1" + seed)
