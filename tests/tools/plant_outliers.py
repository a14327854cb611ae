#!/usr/bin/env python3
"""Gives a model outlier channels as large language models have them, without changing what it computes.

    plant_outliers.py MODEL OUT [--channels 6] [--factor 30] [--seed 0]

Of every norm whose output only MatMuls with constant weights read, some channels' scales are multiplied by the factor and the
rows of those weights divided by it.  Prints how many norms there were.
"""
import argparse
import sys

import numpy as np
import onnx
from onnx import numpy_helper


def plant(model, channels=6, factor=30, seed=0):
    """Edits the model in place; the number of norms."""
    constants = {i.name: i for i in model.graph.initializer}
    readers = {}
    for node in model.graph.node:
        for name in set(node.input):
            readers.setdefault(name, []).append(node)
    values = {name: numpy_helper.to_array(i).copy() for name, i in constants.items() if i.data_type == onnx.TensorProto.FLOAT}
    rng, norms = np.random.default_rng(seed), 0
    for node in model.graph.node:
        gamma = next((n for n in node.input if node.op_type == "Mul" and n in values and values[n].ndim == 1 and values[n].size > channels), None)
        linears = readers.get(node.output[0], []) if gamma else []
        if not linears or any(r.op_type != "MatMul" or r.input[0] != node.output[0] or r.input[1] not in values for r in linears):
            continue
        assert all(len(readers[n]) == 1 for n in [gamma] + [r.input[1] for r in linears]), "a shared constant cannot be scaled for one reader"
        loud = rng.choice(values[gamma].size, channels, replace=False)
        values[gamma][loud] *= np.float32(factor)
        for r in linears:
            values[r.input[1]][loud] /= np.float32(factor)
        norms += 1
    for name, value in values.items():
        constants[name].CopyFrom(numpy_helper.from_array(value, name))
    return norms


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--channels", type=int, default=6)
    parser.add_argument("--factor", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = onnx.load(options.model)
    norms = plant(model, options.channels, options.factor, options.seed)
    if norms == 0:
        sys.exit(f"{options.model}: no norm that only MatMuls with constant weights read")
    onnx.save(model, options.out)
    print(f"{norms} norms")


if __name__ == "__main__":
    main()
