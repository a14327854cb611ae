#!/usr/bin/env python3
"""The speed of ONNX Runtime's and numpy's counterparts of bench/kernels.c.

    python3 bench/kernels_ort.py        # needs numpy, onnx and onnxruntime

Million elements a second of one thread's processor time, on the same values
and row length as bench/kernels.c; medians.  The first column is a tensor of
256 Ki floats, because the cost of a call to ONNX Runtime would hide a smaller one.
"""
import statistics
import time

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

ROW, SIZES, ROUNDS = 384, (256 << 10, 4 << 20), 15


def rate(n, call):
    """Million elements a second: the median of ROUNDS calls."""
    call()
    seconds = []
    for _ in range(ROUNDS):
        start = time.thread_time()
        call()
        seconds.append(time.thread_time() - start)
    return n / statistics.median(seconds) / 1e6


def session(op, value, constants, **attributes):
    """A bound session of one node: its first input is `value`, the others are constants."""
    names = [f"c{i}" for i in range(len(constants))]
    node = helper.make_node(op, ["x", *names], ["y"], **attributes)
    kind = TensorProto.UINT8 if value.dtype == np.uint8 else TensorProto.FLOAT
    graph = helper.make_graph(
        [node], "one", [helper.make_tensor_value_info("x", kind, value.shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(c), name) for c, name in zip(constants, names)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    run = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = run.io_binding()
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(value))
    binding.bind_output("y")
    return lambda: run.run_with_iobinding(binding)


def values(n):
    i = np.arange(n // ROW * ROW, dtype=np.uint64)
    return ((i * 2654435761 >> 8 & 0xFFFF).astype(np.float32) / 8192 - 4).reshape(-1, ROW)


def counterparts(x):
    """(name, callable) of every kernel that has one."""
    ones, scale, zero = np.ones(ROW, np.float32), np.float32(0.05), np.uint8(128)
    codes, out = (x * 10 + 128).astype(np.uint8), np.empty_like(x)
    yield "numpy copy", lambda: np.copyto(out, x)
    yield "numpy exp", lambda: np.exp(x, out=out)
    yield "numpy tanh", lambda: np.tanh(x, out=out)
    yield "numpy min, max", lambda: (x.min(), x.max())
    yield "layernorm", session("LayerNormalization", x, [ones, ones])
    for name, op in (("softmax", "Softmax"), ("log_softmax", "LogSoftmax"), ("exp", "Exp"), ("erf", "Erf"),
                     ("tanh", "Tanh"), ("sigmoid", "Sigmoid"), ("gelu", "Gelu")):
        yield name, session(op, x, [])
    yield "add_row", session("Add", x, [ones])
    yield "transpose", session("Transpose", x, [], perm=[1, 0])
    yield "quantize_u8", session("QuantizeLinear", x, [scale, zero])
    yield "dequantize_u8", session("DequantizeLinear", codes, [scale, zero])


def main():
    rates = {}
    for n in SIZES:
        x = values(n)
        for name, call in counterparts(x):
            rates.setdefault(name, []).append(rate(x.size, call))
    print(f"onnxruntime {ort.__version__}; million elements a second, one thread")
    print(f"{'kernel':20} {'256 Ki':>9} {'4 Mi':>9}")
    for name, row in rates.items():
        print(f"{name:20} {row[0]:9.0f} {row[1]:9.0f}")


if __name__ == "__main__":
    main()
