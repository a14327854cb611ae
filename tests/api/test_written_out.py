"""Models whose operators are written as others when they are loaded: what is quantized from them runs in ONNX Runtime."""
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from support import quantize, run_theirs

GENERATOR = np.random.default_rng(0)
WIDTH, LENGTH = 32, 9


class Layers:
    """A graph from "x" on, of nodes and weights."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def weight(self, name, *shape):
        self.weights.append(numpy_helper.from_array(GENERATOR.normal(0, 0.2, shape).astype(np.float32), name))
        return name

    def node(self, op, inputs, output, **more):
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"/{output}/{op}", **more))
        return output

    def linear(self, x, output):
        return self.node("MatMul", [x, self.weight("w_" + output, WIDTH, WIDTH)], output)

    def save(self, path, opset):
        shape = ["batch", LENGTH, WIDTH]
        graph = helper.make_graph(self.nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)], self.weights)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def attention_23(m):
    q, k, v = (m.linear("x", name) for name in "qkv")
    a = m.node("Attention", [q, k, v], "a", q_num_heads=4, kv_num_heads=4)
    return m.node("Add", ["x", m.linear(a, "o")], "y")


def fused_17(m):
    first = m.node("BiasGelu", [m.linear("x", "up"), m.weight("bias", WIDTH)], "g", domain="com.microsoft")
    return m.node("SkipLayerNormalization", ["x", m.linear(first, "down"), m.weight("gamma", WIDTH), m.weight("beta", WIDTH)], "y",
                  domain="com.microsoft")


def old_12(m):
    q, k, v = (m.linear("x", name) for name in "qkv")
    scores = m.node("MatMul", [q, m.node("Transpose", [k], "kt", perm=[0, 2, 1])], "scores")
    p = m.node("Softmax", [scores], "p", axis=2)
    wide = m.node("Unsqueeze", [m.node("MatMul", [p, v], "a")], "wide", axes=[1])
    return m.node("Add", ["x", m.linear(m.node("Squeeze", [wide], "narrow", axes=[1]), "o")], "y")


@pytest.mark.parametrize("build, opset", [(attention_23, 23), (fused_17, 17), (old_12, 12)], ids=["attention", "fused", "opset 12"])
@pytest.mark.parametrize("recipe", ["percentile-w8a8", "repquant-w8a8"])
def test_the_quantized_model_runs(build, opset, recipe, tmp_path):
    m = Layers()
    build(m)
    m.save(tmp_path / "model.onnx", opset)
    x = GENERATOR.normal(size=(32, LENGTH, WIDTH)).astype(np.float32)
    np.savez(tmp_path / "calib.npz", x=x)
    out = quantize(tmp_path / "model.onnx", tmp_path / "calib.npz", tmp_path, recipe)
    want, got = run_theirs(tmp_path / "model.onnx", {"x": x})["y"], run_theirs(out / "model.onnx", {"x": x})["y"]
    assert np.abs(got - want).max() < 0.1 * np.abs(want).max()
