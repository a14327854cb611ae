#!/usr/bin/env python3
"""A model with 3 GB of external data: what inspecting and quantizing it costs in time and memory.

    bench/big.py [--recipes minmax-w8a8 ...] [--blocks 15] [--type float32|float16|bfloat16] [--keep]

Makes, in build/big, a transformer of 15 pre-LN blocks of width 2048 with random weights, 755 million of them in two files, and
32 samples of 8 rows.  Weights of 16 bits become float32 by a Cast each, as exporters store them.  Every command runs in a process of its own.  The limits that must hold (inspect: 1 s and 100 MB;
quantize: 1.5 GB, activations included) are checked with the full number of blocks.  Files are removed at the end unless --keep is given.
"""
import argparse
import os
import shutil
import subprocess
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(ROOT, "build", "big")
REPQUANT = os.environ.get("REPQUANT", os.path.join(ROOT, "build", "repquant"))
WIDTH, HIDDEN, HEADS, ROWS, SAMPLES, BLOCKS = 2048, 8192, 16, 8, 32, 15
MB = 1e6
# Type in the file, and numbers as they lie there.
TYPES = {
    "float32": (TensorProto.FLOAT, lambda w: w),
    "float16": (TensorProto.FLOAT16, lambda w: w.astype(np.float16)),
    "bfloat16": (TensorProto.BFLOAT16, lambda w: (w.view(np.uint32) >> 16).astype(np.uint16)),
}


class Maker:
    """Nodes and initializers; large weights go to one of the external files at once and are not held."""

    def __init__(self, folder, stored):
        self.type, self.stored = TYPES[stored]
        self.nodes, self.small, self.large, self.rng = [], [], [], np.random.default_rng(0)
        self.files = [open(os.path.join(folder, f"weights-{i}.bin"), "wb") for i in range(2)]

    def node(self, op, inputs, name, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name, value):
        self.small.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, name, k, n):
        """A matrix whose outputs are about as large as its inputs, in the file that is smaller so far."""
        f = min(self.files, key=lambda f: f.tell())
        w = self.stored(self.rng.standard_normal((k, n), np.float32) / np.float32(np.sqrt(k)))
        t = TensorProto(name=name, data_type=self.type, dims=[k, n], data_location=TensorProto.EXTERNAL)
        for key, value in (("location", os.path.basename(f.name)), ("offset", f.tell()), ("length", w.nbytes)):
            t.external_data.add(key=key, value=str(value))
        w.tofile(f)
        self.large.append(t)
        return name if self.type == TensorProto.FLOAT else self.node("Cast", [name], f"{name}/Cast", to=TensorProto.FLOAT)

    def linear(self, x, name, k, n):
        y = self.node("MatMul", [x, self.weight(f"{name}.weight", k, n)], f"{name}/MatMul")
        return self.node("Add", [self.constant(f"{name}.bias", np.zeros(n, np.float32)), y], f"{name}/Add")

    def norm(self, x, name):
        ones, zeros = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
        return self.node("LayerNormalization", [x, self.constant(f"{name}.gamma", ones), self.constant(f"{name}.beta", zeros)], name)

    def heads(self, x, name, perm):
        split = self.node("Reshape", [x, "split"], f"{name}/split")
        return self.node("Transpose", [split], f"{name}/heads", perm=perm)

    def block(self, x, name):
        y = self.norm(x, f"{name}.norm1")
        q, k, v = (self.heads(self.linear(y, f"{name}.{part}", WIDTH, WIDTH), f"{name}.{part}", perm)
                   for part, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])))
        logits = self.node("Mul", [self.node("MatMul", [q, k], f"{name}.qk"), "scale"], f"{name}.scaled")
        y = self.node("MatMul", [self.node("Softmax", [logits], f"{name}.softmax", axis=-1), v], f"{name}.pv")
        y = self.node("Reshape", [self.node("Transpose", [y], f"{name}.back", perm=[0, 2, 1, 3]), "merge"], f"{name}.merged")
        x = self.node("Add", [x, self.linear(y, f"{name}.o", WIDTH, WIDTH)], f"{name}.residual1")
        y = self.linear(self.norm(x, f"{name}.norm2"), f"{name}.up", WIDTH, HIDDEN)
        y = self.linear(self.node("Relu", [y], f"{name}.relu"), f"{name}.down", HIDDEN, WIDTH)
        return self.node("Add", [x, y], f"{name}.residual2")


def make_model(folder, blocks, stored):
    m, x = Maker(folder, stored), "x"
    m.constant("split", np.array([0, 0, HEADS, WIDTH // HEADS]))
    m.constant("merge", np.array([0, 0, WIDTH]))
    m.constant("scale", np.float32((WIDTH // HEADS) ** -0.5))
    for i in range(blocks):
        x = m.block(x, f"block{i}")
    m.node("Identity", [x], "y")
    shape = ["batch", ROWS, WIDTH]
    graph = helper.make_graph(m.nodes, "big", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)], [*m.small, *m.large])
    for f in m.files:
        f.close()
    path = os.path.join(folder, "big.onnx")
    with open(path, "wb") as f:
        f.write(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    np.savez(os.path.join(folder, "calib"), x=m.rng.standard_normal((SAMPLES, ROWS, WIDTH)).astype(np.float32))
    return path


# Started by a small process of its own: Linux counts what the starting process had when a program began as that program's.
CHILD = """
import resource, subprocess, sys, time
begun = time.monotonic()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
u = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.monotonic() - begun, u.ru_utime + u.ru_stime, u.ru_maxrss * 1024 / 1e6)
"""


def measured(*arguments):
    """Wall seconds, processor seconds and peak MB of one repquant command."""
    told = subprocess.run([sys.executable, "-S", "-c", CHILD, REPQUANT, *arguments], stdout=subprocess.PIPE, text=True)
    if told.returncode != 0:
        sys.exit(f"repquant {' '.join(arguments)} failed")
    return tuple(map(float, told.stdout.split()))


def measure(options):
    model = make_model(os.path.join(OUT, "model"), options.blocks, options.type)
    size = sum(e.stat().st_size for e in os.scandir(os.path.dirname(model)))
    print(f"{options.blocks} blocks of {options.type}, {size / 1e9:.2f} GB", flush=True)
    data = os.path.join(OUT, "calib.npz")
    os.rename(os.path.join(OUT, "model", "calib.npz"), data)
    full, failed = options.blocks >= BLOCKS and options.type == "float32", []

    def show(what, cost, seconds, peak):
        print(f"{what}: {cost[0]:.2f} s wall, {cost[1]:.2f} s processor, peak {cost[2]:.0f} MB", flush=True)
        if full and (cost[0] > seconds or cost[2] > peak):
            failed.append(f"{what}: more than {seconds} s or {peak} MB")

    show("inspect", measured("inspect", model), 1, 100)
    for recipe in options.recipes:
        show(recipe, measured("quantize", model, "--calibration", data, "--recipe", recipe, "--output", os.path.join(OUT, "out"),
                              "--progress", "none"), 600, 1500)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["minmax-w8a8"])
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    parser.add_argument("--type", choices=TYPES, default="float32", help="of the weights in the file")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    os.makedirs(os.path.join(OUT, "model"), exist_ok=True)
    if shutil.disk_usage(OUT).free < 6e9:
        sys.exit("skipped: less than 6 GB are free")
    try:
        failed = measure(options)
    finally:
        if not options.keep:
            shutil.rmtree(OUT)
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
