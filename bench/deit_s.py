#!/usr/bin/env python3
"""Writes a DeiT-S-sized vision transformer with random weights, in the form torch exports: for measuring speed, never accuracy.

    bench/deit_s.py OUT.onnx [--layers 12] [--width 384] [--heads 6] [--seed 0]

Opset 17: patch embedding by Conv, LayerNormalization, fused qkv, GELU spelled out with Erf, dynamic batch.
"""
import argparse

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.weights = [], []

    def constant(self, name, array):
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def gaussian(self, name, *shape):
        return self.constant(name, (self.random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32))

    def shape(self, name, *dims):
        return self.constant(name, np.array(dims, np.int64))

    def node(self, op, name, inputs, outputs=1, **attributes):
        out = [f"{name}_out{i}" if outputs > 1 else f"{name}_out" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, out, name=name, **attributes))
        return out if outputs > 1 else out[0]

    def norm(self, name, x, width):
        gain = self.constant(f"{name}.weight", self.random.uniform(0.5, 1.5, width).astype(np.float32))
        shift = self.constant(f"{name}.bias", self.random.normal(0, 0.1, width).astype(np.float32))
        return self.node("LayerNormalization", f"/{name}/LayerNormalization", [x, gain, shift], epsilon=1e-6, axis=-1)

    def linear(self, name, x, inner, outer):
        y = self.node("MatMul", f"/{name}/MatMul", [x, self.gaussian(f"{name}.weight", inner, outer)])
        return self.node("Add", f"/{name}/Add", [self.gaussian(f"{name}.bias", outer), y])

    def gelu(self, name, x):
        half, one, root = (self.constant(f"{name}.{k}", np.array(v, np.float32)) for k, v in
                           (("half", 0.5), ("one", 1.0), ("root", np.sqrt(2.0))))
        erf = self.node("Erf", f"/{name}/Erf", [self.node("Div", f"/{name}/Div", [x, root])])
        product = self.node("Mul", f"/{name}/Mul", [x, self.node("Add", f"/{name}/Add", [erf, one])])
        return self.node("Mul", f"/{name}/Mul_1", [product, half])

    def attention(self, name, x, width, heads):
        depth = width // heads
        qkv = self.node("Reshape", f"/{name}/Reshape", [self.linear(f"{name}.qkv", x, width, 3 * width),
                                                        self.shape(f"{name}.split", 0, -1, 3, heads, depth)])
        qkv = self.node("Transpose", f"/{name}/Transpose", [qkv], perm=[2, 0, 3, 1, 4])
        parts = self.node("Split", f"/{name}/Split", [qkv, self.shape(f"{name}.thirds", 1, 1, 1)], outputs=3, axis=0)
        first = self.shape(f"{name}.first", 0)
        q, k, v = (self.node("Squeeze", f"/{name}/Squeeze_{i}", [p, first]) for i, p in enumerate(parts))
        scale = self.constant(f"{name}.scale", np.array(depth ** -0.5, np.float32))
        k = self.node("Transpose", f"/{name}/Transpose_1", [k], perm=[0, 1, 3, 2])
        logits = self.node("MatMul", f"/{name}/MatMul", [self.node("Mul", f"/{name}/Mul", [q, scale]), k])
        mixed = self.node("MatMul", f"/{name}/MatMul_1", [self.node("Softmax", f"/{name}/Softmax", [logits], axis=-1), v])
        mixed = self.node("Transpose", f"/{name}/Transpose_2", [mixed], perm=[0, 2, 1, 3])
        mixed = self.node("Reshape", f"/{name}/Reshape_1", [mixed, self.shape(f"{name}.merge", 0, -1, width)])
        return self.linear(f"{name}.proj", mixed, width, width)

    def block(self, name, x, width, heads):
        x = self.node("Add", f"/{name}/Add", [x, self.attention(f"{name}.attn", self.norm(f"{name}.norm1", x, width), width, heads)])
        hidden = self.linear(f"{name}.mlp.fc1", self.norm(f"{name}.norm2", x, width), width, 4 * width)
        return self.node("Add", f"/{name}/Add_1", [x, self.linear(f"{name}.mlp.fc2", self.gelu(f"{name}.mlp.act", hidden), 4 * width, width)])


def build(layers, width, heads, seed):
    b = Builder(seed)
    x = b.node("Conv", "/patch_embed/proj/Conv", ["pixel_values", b.gaussian("patch_embed.proj.weight", width, 3, 16, 16),
                                                  b.gaussian("patch_embed.proj.bias", width)],
               kernel_shape=[16, 16], strides=[16, 16])
    x = b.node("Reshape", "/patch_embed/Reshape", [x, b.shape("patch_embed.shape", 0, width, -1)])
    x = b.node("Transpose", "/patch_embed/Transpose", [x], perm=[0, 2, 1])
    x = b.node("Add", "/Add", [x, b.gaussian("pos_embed", 1, 196, width)])
    for i in range(layers):
        x = b.block(f"blocks.{i}", x, width, heads)
    x = b.node("ReduceMean", "/pool/ReduceMean", [b.norm("norm", x, width)], axes=[1], keepdims=0)
    b.nodes.append(helper.make_node("Gemm", [x, b.gaussian("head.weight", width, 1000), b.gaussian("head.bias", 1000)],
                                    ["logits"], name="/head/Gemm"))
    graph = helper.make_graph(
        b.nodes, "deit_s", [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1000])], b.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    for name, default in (("layers", 12), ("width", 384), ("heads", 6), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    model = build(options.layers, options.width, options.heads, options.seed)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, options.out)


if __name__ == "__main__":
    main()
