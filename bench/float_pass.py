#!/usr/bin/env python3
"""A float pass of ours beside ONNX Runtime's: time on 1 and 2 threads and peak memory, over models and batches; share of sgemm's peak.

    bench/float_pass.py [--rounds 5] [--cases deit-1 deit-32 ...]

Cases: DeiT-Tiny in batches of 1 and 32, all-MiniLM-L6-v2 32 x 128 tokens (bench/minilm.py brings it), stories260k 8 x 128 tokens.
Both sides run in turn, round by round; medians of the rounds are printed, and ratios above 1 mean that ours is faster.  bench/pass.c
runs our engine on so many batches inside one process, ONNX Runtime runs as many inside one session; loading counts for neither.  Ours puts a thread on each batch;
ONNX Runtime is measured both with its threads sharing a batch and with a batch on each of them, and the faster counts.  Processor time (user and system) is shown beside wall time, because others may use the machine; ONNX
Runtime's threads wait by spinning, so with two of them only wall time is a fair ratio.  Peak memory is that of a process which runs
one batch; of ONNX Runtime's, what Python had before the session is taken off.  OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE are unset for all.
"""
import argparse
import concurrent.futures
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
sys.path.insert(0, os.path.join(ROOT, "bench"))
import minilm  # noqa: E402
import passes  # noqa: E402

OUT = passes.OUT
GEMM, PASS = (os.path.join(ROOT, "build", "bench", name) for name in ("gemm", "pass"))
# model, rows of a batch, batches of a measurement
CASES = {
    "deit-1": (f"{passes.MODELS}/deit-tiny.onnx", 1, 48), "deit-32": (f"{passes.MODELS}/deit-tiny.onnx", 32, 4),
    "minilm-32": (minilm.MODEL, 32, 4), "stories-8": (f"{passes.MODELS}/stories260k.onnx", 8, 64),
}
DEIT_MACS = 1.25e9           # of DeiT-Tiny's products, a picture


def inputs(case, rows):
    """Arrays of so many samples."""
    if case.startswith("deit"):
        with np.load(passes.samples(64)) as f:
            return {"pixel_values": np.resize(f["pixel_values"], (rows, 3, 224, 224))}
    if case.startswith("stories"):
        with np.load(f"{passes.DATA}/tinystories/tinystories_calib.npz") as f:
            return {"input_ids": np.resize(f["input_ids"].astype(np.int64), (rows, 128))}
    texts, _ = minilm.sentence_pairs()
    return minilm.encode([" ".join(texts[8 * i:8 * i + 8]) for i in range(rows)], 128)


def prepared(case, batches, rows):
    path = os.path.join(OUT, f"{case}-{batches}.npz")
    if not os.path.exists(path):
        np.savez(path, **inputs(case, batches * rows))
    return path


def ours(case, threads):
    """Wall and processor seconds of one batch."""
    model, rows, batches = CASES[case]
    told = subprocess.run([PASS, model, prepared(case, batches, rows), str(rows), str(threads)], check=True, stdout=subprocess.PIPE, text=True)
    return tuple(map(float, told.stdout.split()))


def session(model, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def timed(s, x, batches, at_once):
    """Wall and processor seconds of one batch, so many running at a time."""
    with concurrent.futures.ThreadPoolExecutor(at_once) as threads:
        wall, cpu = time.monotonic(), time.process_time()
        list(threads.map(lambda _: s.run(None, x), range(batches)))
        return (time.monotonic() - wall) / batches, (time.process_time() - cpu) / batches


def theirs(case, sessions, x):
    """The faster arrangement of the threads."""
    return min(timed(s, x, CASES[case][2], at_once) for s, at_once in sessions)


# ONNX Runtime's process tells its own peak; a small one starts ours: Linux counts what the starting process had as the program's own.
THEIRS = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
import float_pass
def status(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1])
x = dict(np.load(sys.argv[3]))
before = status("VmRSS")
float_pass.session(sys.argv[2], 1).run(None, x)
print((status("VmHWM") - before) / 1024)
"""
OURS = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def memory(case):
    """MiB of ours and of ONNX Runtime's for one batch on one thread."""
    model, rows, _ = CASES[case]
    x = prepared(case, 1, rows)
    commands = ([sys.executable, "-S", "-c", OURS, passes.REPQUANT, "run", model, "--inputs", x, "--outputs", os.path.join(OUT, "y.npz"), "--batch",
                 str(rows), "--threads", "1"], [sys.executable, "-c", THEIRS, os.path.join(ROOT, "bench"), model, x])
    return tuple(float(subprocess.run(c, check=True, stdout=subprocess.PIPE, text=True).stdout) for c in commands)


def sgemm_rate():
    """GF/s of one thread: the median over the shapes of bench/gemm.c."""
    told = subprocess.run([GEMM], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    print(told[0])
    return statistics.median(float(line.split("GF/s")[0].split()[-1]) for line in told if "GF/s" in line)


def measure(case, threads, rounds):
    model, rows, _ = CASES[case]
    sessions, x = [(session(model, 1), threads)], inputs(case, rows)
    if threads > 1:
        sessions.append((session(model, threads), 1))
    for s, at_once in sessions:
        timed(s, x, at_once, at_once)
    pairs = [(ours(case, threads), theirs(case, sessions, x)) for _ in range(rounds)]
    (wall, cpu), (ort_wall, ort_cpu) = (tuple(statistics.median(p[side][k] for p in pairs) for k in (0, 1)) for side in (0, 1))
    ratios = [statistics.median(b[k] / a[k] for a, b in pairs) for k in (0, 1)]
    print(f"| {case} | {threads} | {1e3 * wall:.1f} | {1e3 * cpu:.1f} | {1e3 * ort_wall:.1f} | {1e3 * ort_cpu:.1f} | {ratios[0]:.2f} | {ratios[1]:.2f} |",
          flush=True)
    return ratios, cpu


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    options = parser.parse_args()
    os.makedirs(OUT, exist_ok=True)
    cases = [c for c in options.cases if os.path.exists(CASES[c][0])]
    for c in set(options.cases) - set(cases):
        print(f"{c}: SKIPPED, {CASES[c][0]} is absent")
    print("| case | peak MiB | ONNX Runtime's |\n| --- | --- | --- |")
    for c in cases:
        print("| {} | {:.0f} | {:.0f} |".format(c, *memory(c)), flush=True)
    print("\n| case | threads | wall ms | processor ms | ONNX Runtime's wall | processor | ratio, wall | ratio, processor |\n|" + " --- |" * 8)
    all_ratios, peak = [], sgemm_rate() if "deit-32" in cases and os.path.exists(GEMM) else 0
    for c in cases:
        for threads in (1, 2):
            ratios, cpu = measure(c, threads, options.rounds)
            all_ratios.append(ratios[0])
            if c == "deit-32" and threads == 1 and peak:
                print(f"DeiT-Tiny: {2e-9 * DEIT_MACS * 32 / cpu:.1f} GF/s of sgemm's {peak:.1f}: {2e-7 * DEIT_MACS * 32 / cpu / peak:.0f} %", flush=True)
    if all_ratios:
        print(f"\ngeometric mean of wall ratios {statistics.geometric_mean(all_ratios):.2f}, least {min(all_ratios):.2f}")
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
