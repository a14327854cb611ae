"""Einsum: one that is a matrix product is a layer with its role, any other stays as it is; both as in ONNX Runtime."""
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import quantize, repquant, run_ours, run_theirs

HEADS, SIZE, LENGTH = 4, 8, 7
WIDTH = HEADS * SIZE
RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, LENGTH, WIDTH)).astype(np.float32)
node = helper.make_node


def einsum(equation, inputs, output):
    return node("Einsum", inputs, [output], equation=equation, name=f"/layer/{output}/Einsum")


def model(path, nodes, shapes, length="length", output=("batch", "length", WIDTH)):
    weights = [numpy_helper.from_array(RNG.normal(0, 0.2, shape).astype(np.float32), name) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", length, WIDTH])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), path)
    return path


def same(path, folder):
    ours, theirs = run_ours(path, {"x": X}, folder)["y"], run_theirs(path, {"x": X}, len(X))["y"]
    assert ours.shape == theirs.shape and np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
    return theirs


def told(path):
    return json.loads(repquant("inspect", path, "--json"))


LINEARS = {
    "bsd,df->bsf": ("xw", (WIDTH, 20)), "bsd,fd->bsf": ("xw", (20, WIDTH)), "df,bsd->bsf": ("wx", (WIDTH, 20)), "bsd,df->bfs": ("xw", (WIDTH, 20)),
    "bsd,dhk->bshk": ("xw", (WIDTH, 3, 5)), "bsd,hdk->bhsk": ("xw", (3, WIDTH, 5)), "...d,df->...f": ("xw", (WIDTH, 20)),
    "bsd,df": ("xw", (WIDTH, 20)),
}


@pytest.mark.parametrize("equation", LINEARS)
def test_a_product_with_a_constant_is_a_linear(equation, tmp_path):
    order, shape = LINEARS[equation]
    path = model(tmp_path / "m.onnx", [einsum(equation, list(order), "y")], {"w": shape}, output=None)
    same(path, tmp_path)
    (layer,) = told(path)["layers"]
    assert layer["role"] == "linear" and layer["name"] == "layer.y" and not told(path)["left_float"]


STAYS = {
    "an outer product": ("bsd,f->bsdf", (5,)), "a sum over one operand alone": ("bsd,df->bs", (WIDTH, 20)), "a batch of weights": ("bsd,sdf->bsf", (LENGTH, WIDTH, 5)),
    "a diagonal": ("bsd,ddf->bsf", (WIDTH, WIDTH, 3)), "one number for each row": ("bsd,d->bs", (WIDTH,)), "a broadcast sum": ("bsd,df->bsf", (1, 20)),
}


@pytest.mark.parametrize("what", STAYS)
def test_any_other_equation_stays_in_float_with_its_reason(what, tmp_path):
    equation, shape = STAYS[what]
    path = model(tmp_path / "m.onnx", [einsum(equation, ["x", "w"], "y")], {"w": shape}, LENGTH, output=None)
    if what != "a broadcast sum":  # ONNX Runtime has none
        same(path, tmp_path)
    report = told(path)
    assert not report["layers"] and [left["op"] for left in report["left_float"]] == ["Einsum"] and "product" in report["left_float"][0]["reason"]


def attention(path, scores, values, swapped=False):
    """Attention as JAX writes it: heads are axes of the weights."""
    nodes = [einsum("bsd,dhk->bshk", ["x", "w" + name], name) for name in "qkv"]
    nodes += [einsum(scores, ["k", "q"] if swapped else ["q", "k"], "s"), node("Mul", ["s", "scale"], ["scaled"]), node("Softmax", ["scaled"], ["p"], axis=-1),
              einsum(values, ["v", "p"] if swapped else ["p", "v"], "a"), einsum("bqhd,hdf->bqf", ["a", "wo"], "y")]
    shapes = {"wq": (WIDTH, HEADS, SIZE), "wk": (WIDTH, HEADS, SIZE), "wv": (WIDTH, HEADS, SIZE), "wo": (HEADS, SIZE, WIDTH), "scale": ()}
    return model(path, nodes, shapes)


@pytest.mark.parametrize("swapped, scores, values", [(False, "bqhd,bkhd->bhqk", "bhqk,bkhd->bqhd"), (True, "bkhd,bqhd->bhqk", "bkhd,bhqk->bqhd")])
def test_attention_written_as_einsum_has_its_roles(swapped, scores, values, tmp_path):
    path = attention(tmp_path / "m.onnx", scores, values, swapped)
    want = same(path, tmp_path)
    report = told(path)
    assert {layer["name"]: layer["role"] for layer in report["layers"]} == {
        **{f"layer.{name}": "linear" for name in "qkvy"}, "layer.s.qk": "attention_qk", "layer.a.pv": "attention_pv"}
    assert not report["left_float"]
    np.savez(tmp_path / "calib.npz", x=X)
    for recipe in ("percentile-w8a8", "repquant-w6a6"):
        (tmp_path / recipe).mkdir()
        out = quantize(path, tmp_path / "calib.npz", tmp_path / recipe, recipe)
        got, ours = run_theirs(out / "model.onnx", {"x": X})["y"], run_ours(out / "model.onnx", {"x": X}, tmp_path)["y"]
        assert np.abs(got - want).max() < (0.1 if "8" in recipe else 0.4) * np.abs(want).max()
        assert np.abs(got - ours).max() < 0.1 * np.abs(want).max()
