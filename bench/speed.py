#!/usr/bin/env python3
"""How much faster a quantized model runs than its float form, in ONNX Runtime: one thread, batch 1, in turn, median of 5.

    bench/speed.py [--rounds 5] [--force] [--recipes NAME ...]

DeiT-Tiny (MODELS_DIR) by percentile-w8a8, and a DeiT-S-sized export with random weights (bench/deit_s.py) by each preset that has a floor;
with the size of the file beside float's.
On a processor without VNNI the 8-bit products saturate or run as 16-bit ones, so the figures would say nothing about the
targets quantized models are made for: the lines are skipped there, saying so, unless --force is given.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np
import onnxruntime

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "tools"))
from ort_eval import has_vnni  # noqa: E402

MODELS = os.environ.get("MODELS_DIR", os.path.join(ROOT, "..", "shared", "models"))
OUT = os.path.join(ROOT, "build", "bench")
TINY_FLOOR = 1.55
FLOORS = {"percentile-w8a8": 2.0, "repquant-w8a8": 2.0, "repquant-w6a6": 1.8, "repquant-w4a4": 1.8, "repquant-w4a8": 2.0, "zeroquant-w8a8": 1.8,
          "smoothquant-w8a8, dynamic per tensor": 2.1}
# What is no preset.
RECIPES = {"smoothquant-w8a8, dynamic per tensor": {"preset": "smoothquant-w8a8", "activations": {"mode": "dynamic", "granularity": "per_tensor"}}}


def quantized(name, model, recipe):
    """Calibrated on noise: speed does not depend on the ranges."""
    data, out = os.path.join(OUT, f"{name}-noise.npz"), os.path.join(OUT, f"{name}-{recipe}")
    if recipe in RECIPES:
        os.makedirs(out, exist_ok=True)
        with open(os.path.join(out, "recipe.json"), "w") as f:
            json.dump(RECIPES[recipe], f)
    noise = np.random.default_rng(0).standard_normal((16, 3, 224, 224)).astype(np.float32)
    np.savez(data, pixel_values=noise)
    subprocess.run([os.path.join(ROOT, "build", "repquant"), "quantize", model, "--calibration", data, "--recipe",
                    os.path.join(out, "recipe.json") if recipe in RECIPES else recipe, "--output", out, "--progress", "none"], check=True, stdout=subprocess.DEVNULL)
    return os.path.join(out, "model.onnx")


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not has_vnni():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def seconds(s, x, repeat=8):
    begun = time.process_time()
    for _ in range(repeat):
        s.run(None, {"pixel_values": x})
    return (time.process_time() - begun) / repeat


def measure(name, model, recipe, floor, rounds):
    x = np.random.default_rng(1).standard_normal((1, 3, 224, 224)).astype(np.float32)
    path = quantized(name, model, recipe)
    plain, small = session(model), session(path)
    seconds(plain, x, 2), seconds(small, x, 2)
    pairs = [(seconds(plain, x), seconds(small, x)) for _ in range(rounds)]
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{name}: float {1000 * statistics.median(a for a, _ in pairs):.1f} ms, {recipe} {1000 * statistics.median(b for _, b in pairs):.1f} ms, "
          f"{ratio:.2f}x (floor with VNNI {floor}x), file {100 * os.path.getsize(path) / os.path.getsize(model):.1f} %", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--force", action="store_true", help="measure without VNNI too")
    parser.add_argument("--recipes", nargs="+", choices=FLOORS, default=list(FLOORS))
    options = parser.parse_args()
    if not has_vnni() and not options.force:
        print("SKIPPED: this processor has no VNNI, so the speed of 8-bit models cannot be shown here")
        return
    os.makedirs(OUT, exist_ok=True)
    tiny, small = os.path.join(MODELS, "deit-tiny.onnx"), os.path.join(OUT, "deit-s.onnx")
    if os.path.exists(tiny):
        measure("deit-tiny", tiny, "percentile-w8a8", TINY_FLOOR, options.rounds)
    else:
        print(f"deit-tiny: SKIPPED, {tiny} is absent")
    if not os.path.exists(small):
        subprocess.run([sys.executable, os.path.join(ROOT, "bench", "deit_s.py"), small], check=True)
    for recipe in options.recipes:
        measure("deit-s", small, recipe, FLOORS[recipe], options.rounds)


if __name__ == "__main__":
    main()
