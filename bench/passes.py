#!/usr/bin/env python3
"""How long a float pass takes beside ONNX Runtime's, and how many float passes a quantization costs.

    bench/passes.py [--rounds 5] [--threads 2]

DeiT-Tiny in batches of 32, the calibration pictures of DATA_DIR.  Both sides run the same pictures in turn, round by round;
medians and ratios are printed, for 32 pictures.  A pass of ours is half the difference between `repquant run` on 128 and on
64 pictures (two chunks a thread against one), so that loading does not count; ONNX Runtime is timed inside one session.
OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE are unset for all (they halve sgemm on some machines); the kernel that ran is printed.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODELS = os.environ.get("MODELS_DIR", os.path.join(ROOT, "..", "shared", "models"))
DATA = os.environ.get("DATA_DIR", os.path.join(ROOT, "..", "shared", "data"))
OUT = os.path.join(ROOT, "build", "bench")
REPQUANT = os.environ.get("REPQUANT", os.path.join(ROOT, "build", "repquant"))


# What is quantized: recipe and pictures.  RepQ-ViT's own code spends about 67 of its float passes on 32 pictures
# (some 400 of ONNX Runtime's).
JOBS = [("percentile-w8a8", 64), ("smoothquant-w8a8", 64), ("repquant-w4a4", 32)]


def run(*arguments):
    """Wall seconds, processor seconds and peak MiB of one repquant command."""
    begun = time.monotonic()
    child = subprocess.Popen([REPQUANT, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(errors.decode(errors="replace"))
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def samples(count):
    """`count` calibration pictures as an npz, made once; beyond the 64 there are, they repeat."""
    whole, part = os.path.join(OUT, "deit-tiny-calib.npz"), os.path.join(OUT, f"deit-tiny-{count}.npz")
    if not os.path.exists(whole):
        subprocess.run([sys.executable, f"{ROOT}/tests/tools/images_to_npz.py", f"{DATA}/imagenet-samples/calib", whole,
                        "--preset", "deit"], check=True, stdout=subprocess.DEVNULL)
    if not os.path.exists(part):
        np.savez(part, pixel_values=np.resize(np.load(whole)["pixel_values"], (count, 3, 224, 224)))
    return part


def median_pair(rows):
    return statistics.median(a for a, _ in rows), statistics.median(b for _, b in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    model = os.path.join(MODELS, "deit-tiny.onnx")
    if not os.path.exists(model):
        sys.exit(f"skipped: {model} is absent (set MODELS_DIR and DATA_DIR)")
    os.makedirs(OUT, exist_ok=True)
    half, whole, twice = samples(32), samples(64), samples(128)
    threads = ["--threads", str(options.threads)]

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(model, settings)
    x = np.load(half)["pixel_values"]
    session.run(None, {"pixel_values": x})

    ours, theirs, jobs = [], [], {name: [] for name, _ in JOBS}
    for _ in range(options.rounds):
        (w1, c1, _), (w2, c2, _) = (run("run", model, "--inputs", x_path, "--outputs", os.path.join(OUT, "y.npz"), "--batch", "32", *threads)
                                    for x_path in (whole, twice))
        ours.append(((w2 - w1) / 2, (c2 - c1) / 2))
        wall, cpu = time.monotonic(), time.process_time()
        session.run(None, {"pixel_values": x})
        theirs.append((time.monotonic() - wall, time.process_time() - cpu))
        for name, count in JOBS:
            jobs[name].append(run("quantize", model, "--calibration", samples(count), "--recipe", name, "--output",
                                  os.path.join(OUT, "passes"), "--progress", "none", *threads))
    with open(os.path.join(OUT, "passes", "manifest.json")) as f:
        engine = json.load(f)["engine"]
    (our_wall, our_cpu), (ort_wall, ort_cpu) = median_pair(ours), median_pair(theirs)
    print(f"OpenBLAS kernel {engine['blas']}, CPU {engine['cpu_features']}, {options.threads} threads, median of {options.rounds}")
    print(f"float pass, DeiT-Tiny, batch 32: ours {our_wall:.2f} s wall, {our_cpu:.2f} s processor; "
          f"ONNX Runtime {onnxruntime.__version__} {ort_wall:.2f} s wall, {ort_cpu:.2f} s processor")
    print(f"speed against ONNX Runtime: {ort_wall / our_wall:.2f}x by wall clock, {ort_cpu / our_cpu:.2f}x by processor time")
    for name, count in JOBS:
        wall, cpu = (statistics.median(column) for column in list(zip(*jobs[name]))[:2])
        share = 32 / count
        print(f"{name} on {count} pictures, whole command: {wall:.2f} s wall, {wall / our_wall * share:.2f} of our float passes; {cpu:.2f} s processor, "
              f"{cpu / our_cpu * share:.2f}; {wall / ort_wall * share:.1f} float passes of ONNX Runtime; peak memory {max(p for _, _, p in jobs[name]):.0f} MiB")
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
