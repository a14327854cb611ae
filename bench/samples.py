#!/usr/bin/env python3
"""How a quantization grows with the calibration set: processor time and peak memory of repquant-w4a4 on DeiT-Tiny, 16 to 512 samples.

    bench/samples.py [--counts 16 32 ...] [--recipe NAME] [--memory BYTES]

The 64 calibration pictures are repeated with jitter (normal, 0.02).  Time is processor time, user and system, of the whole
command: other work on the machine shows in it least.  Activations held across cuts are limited by --memory; what is over goes
to a file.  Prints Markdown, and the fit of a line through all points with its worst deviation.
"""
import argparse
import os
import subprocess
import sys

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "bench"))
from compare import CASES, OUT, arrays  # noqa: E402

# A process of its own, so that its children's peak is that of one command.
CHILD = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
u = resource.getrusage(resource.RUSAGE_CHILDREN)
print(u.ru_utime + u.ru_stime, u.ru_maxrss)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", nargs="+", type=int, default=[16, 32, 64, 128, 256, 512])
    parser.add_argument("--recipe", default="repquant-w4a4")
    parser.add_argument("--memory", default=str(256 << 20))
    options = parser.parse_args()
    os.makedirs(OUT, exist_ok=True)
    model, calib, _, preprocess = CASES["deit-tiny"]
    with np.load(arrays(calib, "deit-tiny-calib", preprocess)) as f:
        (name,) = (n for n in f if n != "labels")
        pictures = f[name]
    rng, points = np.random.default_rng(0), []
    print(f"{options.recipe}, --memory {options.memory}\n\n| samples | processor time, s | ms a sample | peak, MiB |\n| --- | --- | --- | --- |")
    for count in options.counts:
        data, out = os.path.join(OUT, "samples.npz"), os.path.join(OUT, "samples")
        os.makedirs(out, exist_ok=True)
        rows = pictures[np.arange(count) % len(pictures)]
        np.savez(data, **{name: rows + rng.normal(0, 0.02, rows.shape).astype(np.float32)})
        told = subprocess.run([sys.executable, "-c", CHILD, f"{ROOT}/build/repquant", "quantize", model, "--calibration", data, "--recipe",
                               options.recipe, "--output", out, "--memory", options.memory, "--progress", "none"],
                              check=True, capture_output=True, text=True).stdout.split()
        points.append((count, float(told[0])))
        print(f"| {count} | {points[-1][1]:.1f} | {1000 * points[-1][1] / count:.0f} | {int(told[1]) / 1024:.0f} |", flush=True)
    n, t = np.array(points).T
    slope, base = np.polyfit(n, t, 1)
    print(f"\n{1000 * slope:.0f} ms a sample and {base:.1f} s; at most {100 * np.abs(t / (base + slope * n) - 1).max():.0f} % off that line")


if __name__ == "__main__":
    main()
