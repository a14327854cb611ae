"""What the end-to-end suites share: where models and data are, arrays made from pictures, the command, ONNX Runtime.

Nothing of RepQuant is imported: the programs are run as a user runs them, and ONNX Runtime says what a model computes.
"""
import hashlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading

import numpy as np
import onnxruntime
import pytest
from conftest import REPQUANT, ROOT, SANITIZER

MODELS = pathlib.Path(os.environ.get("MODELS_DIR", ROOT / "../shared/models")).resolve()
DATA = pathlib.Path(os.environ.get("DATA_DIR", ROOT / "../shared/data")).resolve()
PICTURES = DATA / "imagenet-samples"
STORIES = DATA / "tinystories"
DIGITS = ROOT / "examples" / "digits"
CACHE = ROOT / "build" / "test-data"
VITS = {"deit": MODELS / "deit-tiny.onnx", "vit": MODELS / "vit-tiny.onnx"}

SANITIZED = SANITIZER != ""
OF_THE_MACHINE = "target.no_vnni"        # a warning that is about the processor, not about the job


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Listener:
    """A free port of loopback; each connection to it is carry()'s, on a thread of its own."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def close(self):
        self.listener.close()


def needs(*paths):
    """Skips a test, or with pytestmark a file, where a model or data set is absent."""
    absent = [str(p) for p in paths if not pathlib.Path(p).exists()]
    return pytest.mark.skipif(bool(absent), reason=f"absent: {', '.join(absent)} (set MODELS_DIR and DATA_DIR)")


def pictures(family, part, limit=None):
    """The npz of the first `limit` pictures of imagenet-samples/<part>, made once and kept in build/test-data."""
    path = CACHE / f"{family}-{part}{f'-{limit}' if limit else ''}.npz"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f"{os.getpid()}-{path.name}")
        subprocess.run([sys.executable, ROOT / "tests/tools/images_to_npz.py", PICTURES / part, half, "--preset", family,
                        *(["--limit", str(limit)] if limit else [])], check=True, stdout=subprocess.DEVNULL)
        half.rename(path)
    return path


def load(path):
    with np.load(path, allow_pickle=False) as f:
        return dict(f)


def repquant(*arguments, timeout=300, status=0):
    """Runs the command; its standard output.  status=None: the finished process, whatever it says."""
    ended = subprocess.run([REPQUANT, *map(str, arguments)], capture_output=True, text=True, errors="replace", timeout=timeout)
    if status is None:
        return ended
    assert ended.returncode == status, f"repquant {' '.join(map(str, arguments))}: {ended.returncode}\n{ended.stderr}"
    return ended.stdout


def run_ours(model, arrays, folder, **options):
    """The outputs of `repquant run` by name."""
    np.savez(folder / "run-in.npz", **arrays)
    more = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    repquant("run", model, "--inputs", folder / "run-in.npz", "--outputs", folder / "run-out.npz", *more)
    return load(folder / "run-out.npz")


def session(model, optimized=None):
    """An ONNX Runtime session at the default level of optimization.

    Without the entry, products of u8 and s8 saturate at 16 bits on processors without VNNI.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    if optimized:
        options.optimized_model_filepath = str(optimized)
    source = str(model) if isinstance(model, (str, pathlib.Path)) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_theirs(model, arrays, batch=16):
    """The outputs of ONNX Runtime by name, `batch` samples at a time."""
    s = session(model)
    inputs, names = [i.name for i in s.get_inputs()], [o.name for o in s.get_outputs()]
    count = len(arrays[inputs[0]])
    parts = [s.run(names, {n: arrays[n][at:at + batch] for n in inputs}) for at in range(0, count, batch)]
    return {name: np.concatenate([p[i] for p in parts]) for i, name in enumerate(names)}


def perplexity(logits, ids):
    """exp of the mean negative log likelihood of each next token."""
    z = logits[:, :-1].astype(np.float64)
    z -= z.max(-1, keepdims=True)
    told = np.take_along_axis(z, ids[:, 1:, None], -1)[..., 0]
    return float(np.exp(np.mean(np.log(np.exp(z).sum(-1)) - told)))


def quantize(model, calibration, folder, recipe="percentile-w8a8", **options):
    """`repquant quantize`; the folder of its results.  recipe: a preset's name or a dict."""
    if not isinstance(recipe, str):
        path = pathlib.Path(folder) / "recipe.json"
        path.write_text(json.dumps(recipe))
        recipe = path
    out = pathlib.Path(folder) / "out"
    more = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    repquant("quantize", model, "--calibration", calibration, "--recipe", recipe, "--output", out, "--progress", "none", *more)
    return out
