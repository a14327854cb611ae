"""Models whose operators are written as others when they are loaded: what is quantized from them runs in ONNX Runtime."""
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from support import quantize, repquant, run_theirs

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


def optimised_17(m):
    """A block as ONNX Runtime's optimizer leaves it: q, k and v in one product, bias and residual inside the norms."""
    heads, size = 4, WIDTH // 4
    m.weights.append(numpy_helper.from_array(np.array([0, LENGTH, heads, size]), "heads"))
    m.weights.append(numpy_helper.from_array(np.array([0, LENGTH, WIDTH]), "whole"))
    m.weights.append(numpy_helper.from_array(np.full(3, WIDTH), "thirds"))
    m.weights.append(numpy_helper.from_array(np.float32(size ** -0.5), "scale"))
    qkv = m.node("Add", [m.node("MatMul", ["x", m.weight("w_qkv", WIDTH, 3 * WIDTH)], "qkv_product"), m.weight("b_qkv", 3 * WIDTH)], "qkv")
    m.nodes.append(helper.make_node("Split", [qkv, "thirds"], ["q", "k", "v"], axis=2, name="/split/Split"))
    for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        m.node("Transpose", [m.node("Reshape", [name, "heads"], name + "_split")], name + "_heads", perm=perm)
    scores = m.node("Mul", [m.node("MatMul", ["q_heads", "k_heads"], "scores"), "scale"], "scaled")
    mixed = m.node("MatMul", [m.node("Softmax", [scores], "p", axis=-1), "v_heads"], "mixed")
    a = m.node("Reshape", [m.node("Transpose", [mixed], "merged", perm=[0, 2, 1, 3]), "whole"], "a")
    first = helper.make_node("SkipLayerNormalization", ["x", m.linear(a, "o"), m.weight("gamma", WIDTH), m.weight("beta", WIDTH), m.weight("b_o", WIDTH)],
                             ["n1", "", "", "sum1"], name="/norm1/SkipLayerNormalization", domain="com.microsoft", epsilon=1e-5)
    m.nodes.append(first)
    up = m.node("FastGelu", [m.linear("n1", "up"), m.weight("b_up", WIDTH)], "g", domain="com.microsoft")
    return m.node("SkipLayerNormalization", ["sum1", m.linear(up, "down"), m.weight("gamma2", WIDTH), m.weight("beta2", WIDTH)], "y", domain="com.microsoft")


def old_12(m):
    q, k, v = (m.linear("x", name) for name in "qkv")
    scores = m.node("MatMul", [q, m.node("Transpose", [k], "kt", perm=[0, 2, 1])], "scores")
    p = m.node("Softmax", [scores], "p", axis=2)
    wide = m.node("Unsqueeze", [m.node("MatMul", [p, v], "a")], "wide", axes=[1])
    return m.node("Add", ["x", m.linear(m.node("Squeeze", [wide], "narrow", axes=[1]), "o")], "y")


FORMS = pytest.mark.parametrize("build, opset", [(attention_23, 23), (fused_17, 17), (optimised_17, 17), (old_12, 12)],
                                ids=["attention", "fused", "optimised", "opset 12"])


@FORMS
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


def test_a_graph_that_was_optimised_has_its_roles(tmp_path):
    m = Layers()
    optimised_17(m)
    m.save(tmp_path / "model.onnx", 17)
    told = json.loads(repquant("inspect", tmp_path / "model.onnx", "--json"))
    assert [layer["role"] for layer in told["layers"]] == ["linear", "attention_qk", "attention_pv", "linear", "linear", "linear"]
    assert not told["left_float"] and [n["kind"] for n in told["norms"]] == ["layer_norm"] * 2
    assert told["softmaxes"] == 1 and told["activations"] == [{"kind": "gelu_tanh", "count": 1}]
