#!/usr/bin/env python3
"""Quantizes real models with repquant and with ONNX Runtime's own quantizer and compares what comes out.

    bench/compare.py [--models vit-tiny deit-tiny digits] [--recipes percentile-w8a8 minmax-w8a8]

Same calibration samples, same evaluation samples, same runtime (ONNX Runtime, CPU, 2 threads).  Per row: seconds and peak
memory of the quantizer process, size, top-1, agreement with the float model, logit SQNR, and milliseconds per sample.
Real models and data come from MODELS_DIR and DATA_DIR; where they are absent only the committed example is measured.
Prints a Markdown table; intermediate files stay in build/bench.
"""
import argparse
import os
import subprocess
import sys
import time

import numpy as np
import onnxruntime

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "tools"))
from ort_eval import compare, has_vnni, logits_of  # noqa: E402

MODELS = os.environ.get("MODELS_DIR", os.path.join(ROOT, "..", "shared", "models"))
DATA = os.environ.get("DATA_DIR", os.path.join(ROOT, "..", "shared", "data"))
OUT = os.path.join(ROOT, "build", "bench")
# name: model, calibration folder or file, evaluation folder or file, how pictures become arrays
CASES = {
    "digits": (f"{ROOT}/examples/digits/model.onnx", f"{ROOT}/examples/digits/calib.npz",
               f"{ROOT}/examples/digits/eval.npz", None),
    "deit-tiny": (f"{MODELS}/deit-tiny.onnx", f"{DATA}/imagenet-samples/calib", f"{DATA}/imagenet-samples/dev",
                  ["--preset", "deit"]),
    "vit-tiny": (f"{MODELS}/vit-tiny.onnx", f"{DATA}/imagenet-samples/calib", f"{DATA}/imagenet-samples/dev",
                 ["--preset", "vit"]),
}
# What a user of ONNX Runtime's quantizer would try, as a program of its own so that its memory can be measured.
ORT = """
import sys, numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
model, calib, out, method = sys.argv[1:]
class Reader(CalibrationDataReader):
    def __init__(self):
        d = np.load(calib)
        names = [n for n in d.files if n != "labels"]
        self.rows = iter([{n: d[n][i:i + 1] for n in names} for i in range(len(d[names[0]]))])
    def get_next(self):
        return next(self.rows, None)
quantize_static(model, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8, calibrate_method=CalibrationMethod[method])
"""


def arrays(source, name, preprocess):
    """The .npz of a folder of pictures, made once; an .npz is itself."""
    if preprocess is None:
        return source
    out = os.path.join(OUT, name + ".npz")
    if not os.path.exists(out):
        subprocess.run([sys.executable, f"{ROOT}/tests/tools/images_to_npz.py", source, out, *preprocess],
                       check=True, stdout=subprocess.DEVNULL)
    return out


def measured(command):
    """Seconds and peak resident MiB of a command, or None if it failed (its output is printed)."""
    log = os.path.join(OUT, "log")
    begun = time.monotonic()
    with open(log, "wb") as f:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        with open(log, errors="replace") as f:
            print(f"failed: {' '.join(command[:3])} ...\n{f.read()[-2000:]}", file=sys.stderr)
        return None
    return time.monotonic() - begun, usage.ru_maxrss / 1024


def milliseconds(model, data, exact, batch=8, seconds=3.0):
    """Per sample, best of repeated runs of one batch."""
    options = onnxruntime.SessionOptions()
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {i.name: data[i.name][:batch] for i in session.get_inputs()}
    best, until = float("inf"), time.monotonic() + seconds
    while time.monotonic() < until:
        begun = time.perf_counter()
        session.run(None, feed)
        best = min(best, time.perf_counter() - begun)
    return best / batch * 1000


def rows(case, how, cost, model, truth, data, float_ms):
    """One line; a second one where the processor has no VNNI and exact products have to be asked for."""
    spent = f"{cost[0]:.1f} s | {cost[1]:.0f} MiB" if cost else "- | -"
    for exact in [False] if has_vnni() or not cost else [False, True]:
        r = compare(truth, logits_of(model, data, 8, exact), data["labels"])
        ms = milliseconds(model, data, exact)
        sqnr = "-" if r["logit_sqnr_db"] is None else f"{r['logit_sqnr_db']:.1f} dB"
        print(f"| {case} | {how}{', x64quantprecision' if exact else ''} | {spent} | {os.path.getsize(model) / 2**20:.2f} MiB | "
              f"{r['quantized_top1']:.2%} | {r['agreement']:.2%} | {sqnr} | {ms:.2f} ms ({float_ms / ms:.2f}x) |", flush=True)


def bench(case, recipes):
    model, calib, evaluation, preprocess = CASES[case]
    if not os.path.exists(model):
        print(f"{case}: SKIPPED, {model} is absent", file=sys.stderr)
        return
    calib, evaluation = arrays(calib, case + "-calib", preprocess), arrays(evaluation, case + "-eval", preprocess)
    with np.load(evaluation) as f:
        data = dict(f)
    truth, float_ms = logits_of(model, data, 8), milliseconds(model, data, False)
    rows(case, "float", None, model, truth, data, float_ms)
    for recipe in recipes:
        out = os.path.join(OUT, f"{case}-{recipe}")
        cost = measured([f"{ROOT}/build/repquant", "quantize", model, "--calibration", calib, "--recipe", recipe,
                         "--output", out, "--progress", "none"])
        if cost:
            rows(case, f"repquant {recipe}", cost, os.path.join(out, "model.onnx"), truth, data, float_ms)
    for method in ("MinMax", "Percentile"):
        out = os.path.join(OUT, f"{case}-ort-{method}.onnx")
        cost = measured([sys.executable, "-c", ORT, model, calib, out, method])
        if cost:
            rows(case, f"ONNX Runtime {method}", cost, out, truth, data, float_ms)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--recipes", nargs="+", default=["percentile-w8a8", "minmax-w8a8"])
    args = parser.parse_args()
    os.makedirs(OUT, exist_ok=True)
    print("| model | quantizer | time | peak memory | size | top-1 | same answer | logit SQNR | per sample |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for case in args.models:
        bench(case, args.recipes)


if __name__ == "__main__":
    main()
