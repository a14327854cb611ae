"""LayerNorm as TensorFlow's and Keras' exporters spell it: recognised, and folded into as if it were one node."""
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import quantize, repquant, run_ours, run_theirs

WIDTH, LENGTH, LAYERS = 32, 6, 2
RNG = np.random.default_rng(0)
# Channels of very different width, so that a method that folds into the norm has something to fold.
SPREAD = np.exp(RNG.normal(0, 1.5, WIDTH)).astype(np.float32)
X = RNG.normal(size=(32, LENGTH, WIDTH)).astype(np.float32)
WEIGHTS = {f"{name}{i}": value.astype(np.float32) for i in range(LAYERS) for name, value in {
    "gamma": SPREAD * RNG.permutation(SPREAD), "beta": SPREAD * RNG.normal(size=WIDTH), "w": RNG.normal(0, 0.2, (WIDTH, WIDTH)) / SPREAD[:, None]}.items()}
CONSTANTS = {"eps": np.float32(1e-5), "one": np.float32(1), "two": np.float32(2)}
node = helper.make_node


def one_node(x, i):
    return [node("LayerNormalization", [x, f"gamma{i}", f"beta{i}"], [f"n{i}"], axis=-1)]


def factored(x, i, root, square, gamma=True, beta=True, swap=False):
    """x * r + (beta - mean(x) * r), r = gamma / sqrt(var + eps)."""
    def two(*names):
        return list(reversed(names)) if swap else list(names)
    r = f"r{i}" if gamma else f"inverse{i}"
    nodes = [node("ReduceMean", [x], [f"mean{i}"], axes=[-1]), node("Sub", [x, f"mean{i}"], [f"d{i}"]), *square(i),
             node("ReduceMean", [f"square{i}"], [f"var{i}"], axes=[-1]), node("Add", two(f"var{i}", "eps"), [f"sum{i}"]), node("Sqrt", [f"sum{i}"], [f"root{i}"]),
             *root(i)]
    nodes += [node("Mul", two(f"inverse{i}", f"gamma{i}"), [r])] if gamma else []
    nodes += [node("Mul", two(x, r), [f"a{i}"]), node("Mul", two(f"mean{i}", r), [f"b{i}"])]
    if not beta:
        return [*nodes, node("Neg", [f"b{i}"], [f"c{i}"]), node("Add", [f"a{i}", f"c{i}"], [f"n{i}"])] if swap else \
            [*nodes, node("Sub", [f"a{i}", f"b{i}"], [f"n{i}"])]
    return [*nodes, node("Sub", [f"beta{i}", f"b{i}"], [f"c{i}"]), node("Add", two(f"a{i}", f"c{i}"), [f"n{i}"])]


def reciprocal(i):
    return [node("Reciprocal", [f"root{i}"], [f"inverse{i}"])]


def division(i):
    return [node("Div", ["one", f"root{i}"], [f"inverse{i}"])]


def by_mul(i):
    return [node("Mul", [f"d{i}", f"d{i}"], [f"square{i}"])]


def by_pow(i):
    return [node("Pow", [f"d{i}", "two"], [f"square{i}"])]


SPELLINGS = {
    "tf": lambda x, i: factored(x, i, reciprocal, by_mul), "swapped": lambda x, i: factored(x, i, division, by_pow, swap=True),
    "no gamma": lambda x, i: factored(x, i, reciprocal, by_mul, gamma=False), "no beta": lambda x, i: factored(x, i, reciprocal, by_mul, beta=False),
    "no beta, negated": lambda x, i: factored(x, i, reciprocal, by_mul, beta=False, swap=True),
}


def model(path, norm, ir=8, as_inputs=False):
    nodes, x = [], "x"
    for i in range(LAYERS):
        y = "y" if i == LAYERS - 1 else f"h{i}"
        nodes += [*norm(x, i), node("MatMul", [f"n{i}", f"w{i}"], [f"p{i}"], name=f"/layer{i}/MatMul"), node("Add", [x, f"p{i}"], [y])]
        x = y
    used = {name for n in nodes for name in n.input}
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in (WEIGHTS | CONSTANTS).items() if name in used]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", LENGTH, WIDTH])]
    if as_inputs:
        inputs += [helper.make_tensor_value_info(w.name, w.data_type, list(w.dims)) for w in weights]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", LENGTH, WIDTH])], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=ir), path)
    return path


def decibels(want, got):
    return 10 * np.log10(np.square(want, dtype=np.float64).sum() / max(np.square(want - got, dtype=np.float64).sum(), 1e-30))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelled_norm_is_recognised(spelling, tmp_path):
    path = model(tmp_path / "m.onnx", SPELLINGS[spelling])
    ours, theirs = run_ours(path, {"x": X}, tmp_path)["y"], run_theirs(path, {"x": X})["y"]
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
    told = json.loads(repquant("inspect", path, "--json"))
    assert [(n["kind"], n["decomposed"], n["feeds"]) for n in told["norms"]] == [("layer_norm", True, [f"layer{i}"]) for i in range(LAYERS)]


@pytest.mark.parametrize("recipe", ["minmax-w8a8", "repquant-w8a8", "repquant-w6a6", "repquant-w4a4", "repq-vit-w4a4", "smoothquant-w8a8"])
def test_a_spelled_norm_is_folded_into_like_one_node(recipe, tmp_path):
    """The same function in two spellings: what is quantized from them agrees, up to codes on a boundary."""
    np.savez(tmp_path / "calib.npz", x=X)
    results = {}
    for name, norm in [("one", one_node), *((s, SPELLINGS[s]) for s in ("tf", "swapped"))]:
        (tmp_path / name).mkdir()
        path = model(tmp_path / f"{name}.onnx", norm)
        out = quantize(path, tmp_path / "calib.npz", tmp_path / name, recipe)
        report = json.loads((out / "report.json").read_text())
        assert len(report["layers"]) == LAYERS
        written = {w.name for w in onnx.load(out / "model.onnx").graph.initializer}
        assert ({"gamma0_folded", "beta0_folded"} <= written) == (recipe != "minmax-w8a8")
        results[name] = run_theirs(out / "model.onnx", {"x": X})["y"]
        ours = run_ours(out / "model.onnx", {"x": X}, tmp_path)["y"]
        assert decibels(results[name], ours) > 25
    want = run_theirs(tmp_path / "one.onnx", {"x": X})["y"]
    for name in ("tf", "swapped"):
        assert decibels(results["one"], results[name]) > decibels(want, results["one"]) + 3
        assert abs(decibels(want, results["one"]) - decibels(want, results[name])) < 1


@pytest.mark.parametrize("inner", ["r0", "a0", "b0", "c0"])
def test_nothing_is_folded_into_what_others_read(inner, tmp_path):
    np.savez(tmp_path / "calib.npz", x=X)
    path = model(tmp_path / "m.onnx", SPELLINGS["tf"])
    m = onnx.load(path)
    m.graph.output.append(helper.make_tensor_value_info(inner, TensorProto.FLOAT, ["batch", LENGTH, WIDTH]))
    onnx.save(m, path)
    assert len(json.loads(repquant("inspect", path, "--json"))["norms"]) == LAYERS - 1
    out = quantize(path, tmp_path / "calib.npz", tmp_path, "repquant-w8a8")
    want, got = (run_theirs(p, {"x": X}) for p in (path, out / "model.onnx"))
    np.testing.assert_allclose(got[inner], want[inner], rtol=1e-4, atol=1e-4 * np.abs(want[inner]).max())


def test_weights_may_be_inputs_too(tmp_path):
    """IR 3 wants every initializer among the inputs; they are constants all the same, and none is asked for."""
    np.savez(tmp_path / "calib.npz", x=X)
    path = model(tmp_path / "m.onnx", SPELLINGS["tf"], 3, as_inputs=True)
    told = json.loads(repquant("inspect", path, "--json"))
    assert [i["name"] for i in told["inputs"]] == ["x"] and len(told["layers"]) == LAYERS and len(told["norms"]) == LAYERS
    want, ours = run_theirs(model(tmp_path / "plain.onnx", SPELLINGS["tf"]), {"x": X}), run_ours(path, {"x": X}, tmp_path)
    assert np.abs(want["y"] - ours["y"]).max() <= 1e-4 * np.abs(want["y"]).max()
    out = quantize(path, tmp_path / "calib.npz", tmp_path, "repquant-w8a8")
    assert [i.name for i in onnx.load(out / "model.onnx").graph.input] == ["x"]
    assert decibels(want["y"], run_theirs(out / "model.onnx", {"x": X})["y"]) > 25
