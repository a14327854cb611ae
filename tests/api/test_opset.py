"""Models under a newer opset compute the same: core/artifact/opset.c through tests/tools/raise_opset.

ONNX Runtime runs each model as it was and as it is after, and must give the same bits.  The nodes are those of
test_ops_vs_ort.py, every form of every operator our engine runs, under each opset that takes them, and a few that it
does not run.  ONNX's list of versions says which operators must be among them.
"""
import dataclasses
import functools
import json
import pathlib
import subprocess

import numpy as np
import onnx
import pytest
from conftest import REPQUANT
from onnx import TensorProto, defs, helper, numpy_helper
from support import DIGITS, MODELS, VITS, load, needs, quantize, repquant, run_ours, run_theirs
from test_ops_vs_ort import CASES, Case, Model, check, i64, rng, run_ort
from test_ops_vs_ort import run_ours as run_nodes

RAISE = pathlib.Path(REPQUANT).parent / "tools" / "raise_opset"
OLDEST, NEWEST = 13, 21
IR = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}
STORIES260K = MODELS / "stories260k.onnx"


def raised(model, folder, opset=NEWEST, status=0):
    """The model under the new opset, checked; of a refusal, the message."""
    assert RAISE.exists(), f"{RAISE} is absent: make test-tools"
    source, out = pathlib.Path(folder) / "from.onnx", pathlib.Path(folder) / "raised.onnx"
    if isinstance(model, onnx.ModelProto):
        onnx.save(model, source)
    ended = subprocess.run([RAISE, source if isinstance(model, onnx.ModelProto) else model, out, str(opset)],
                           capture_output=True, text=True, timeout=60)
    assert ended.returncode == status, ended.stderr
    if status:
        return ended.stderr
    onnx.checker.check_model(out, full_check=True)
    m = onnx.load(out)
    assert [o.version for o in m.opset_import if o.domain == ""] == [opset] and m.ir_version >= IR[opset]
    return out


# ---- nodes ----

IMAGE = rng(1, 4, 5, 6)
EXTRA = [Case(f"{op}: {label}", op, data, attrs, tuple(range(1, len(data))), 13, n_out)
         for op, label, data, n_out, attrs in [
    *((op, f"axes {axes}", [rng(3, 5, 9, lo=0.1)], 1, dict(axes=axes, keepdims=keep))
      for op in ("ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
      for axes, keep in (([-1], 1), ([0, 2], 0))),
    ("BatchNormalization", "inference", [IMAGE, rng(4), rng(4), rng(4), rng(4, lo=0.5)], 1, dict(epsilon=1e-3)),
    ("Resize", "scales", [IMAGE, np.zeros(0, np.float32), np.float32([1, 1, 2, 1.5])], 1, dict(mode="linear")),
    ("Resize", "sizes", [IMAGE, None, None, i64(1, 4, 3, 9)], 1, dict(mode="cubic", coordinate_transformation_mode="align_corners")),
    ("Resize", "nearest", [IMAGE, None, np.float32([1, 1, 0.6, 2.3])], 1, {}),
    ("PRelu", "a slope for each row", [rng(3, 5), rng(3, 1)], 1, {}),
    ("LeakyRelu", "default slope", [rng(3, 5)], 1, {}),
    ("IsInf", "above", [np.float32([1, np.inf, -np.inf, np.nan])], 1, dict(detect_negative=0)),
    ("ScatterND", "rows", [rng(4, 3), i64([2], [0]), rng(2, 3)], 1, {}),
    ("ScatterElements", "columns", [rng(3, 4), i64([1], [-1], [0]), rng(3, 1)], 1, dict(axis=1)),
    ("AveragePool", "sums and quarters that are exact in any order", [np.round(IMAGE * 8)], 1, dict(kernel_shape=[2, 2], strides=[2, 1], pads=[1, 1, 0, 1], count_include_pad=1)),
    ("Constant", "floats", [], 1, dict(value=numpy_helper.from_array(IMAGE[0]))),
    ("QuantizeLinear", "one scale in a list", [rng(3, 4), np.float32([0.1]), np.int8([3])], 1, {}),
    ("DequantizeLinear", "one scale in a list", [rng(3, 4, dtype="int8"), np.float32([0.1]), np.int8([3])], 1, {}),
]]


def nodes(cases, opset):
    model = Model([dataclasses.replace(c, opset=opset) for c in cases], constant=False).proto
    model.ir_version = IR[opset]
    return model


def runs(case, opset):
    """ONNX Runtime takes the case under this opset."""
    try:
        model = nodes([case], opset)
        onnx.checker.check_model(model)
        run_ort(model)
        return True
    except Exception:   # whatever the checker, shape inference or ONNX Runtime raise
        return False


@functools.cache
def cases_of(opset):
    """What can be said under this opset: the cases of opset 17, and those that need no newer one, as far as they run."""
    return [c for c in CASES + EXTRA if c.opset <= max(opset, 17) and runs(c, opset)]


@pytest.mark.parametrize("opset", range(OLDEST, NEWEST))
def test_every_operator_computes_the_same_bits_under_the_new_opset(opset, tmp_path):
    cases = cases_of(opset)
    model = nodes(cases, opset)
    before, after = run_ort(model), run_ort(onnx.load(raised(model, tmp_path)))
    assert list(before) == list(after)
    assert opset > 17 or set(EXTRA) <= set(cases), "cases that are here to be run are not"
    for name, want in before.items():
        label = cases[int(name[1:name.index("_")])].label if name != "negated" else name
        assert want.dtype == after[name].dtype and want.tobytes() == after[name].tobytes(), label


@pytest.mark.parametrize("opset", [OLDEST, 17, 18])
def test_our_engine_reads_what_was_raised(opset, tmp_path):
    known = {c.op for c in CASES}
    cases = [c for c in cases_of(opset) if c.op in known]
    after = onnx.load(raised(nodes(cases, opset), tmp_path))
    want, (got, failure) = run_ort(after), run_nodes(after)
    assert not failure
    for k, c in enumerate(cases):
        for name in (n for n in want if n.startswith(f"c{k}_")):
            check(c, f"{c.label} {name}", got[name], want[name])


def test_an_empty_list_of_axes_still_means_all(tmp_path):
    node = helper.make_node("ReduceMean", ["x"], ["y"])
    node.attribute.append(helper.make_attribute("axes", [], attr_type=onnx.AttributeProto.INTS))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [3, 5]), ("y", [1, 1])))
    onnx.save(helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
              tmp_path / "m.onnx")
    arrays = {"x": rng(3, 5)}
    before, after = run_theirs(tmp_path / "m.onnx", arrays)["y"], run_theirs(raised(tmp_path / "m.onnx", tmp_path), arrays)["y"]
    assert before.shape == (1, 1) and before.tobytes() == after.tobytes()


# ---- the table is complete ----

def changed_versions():
    """Versions in 14..21 of the standard operators that were there before, by name."""
    versions = {}
    for s in defs.get_all_schemas_with_history():
        if s.domain == "":
            versions.setdefault(s.name, set()).add(s.since_version)
    changed = {op: [v for v in sorted(vs) if OLDEST < v <= NEWEST and v > min(vs)] for op, vs in versions.items()}
    return {op: vs for op, vs in changed.items() if vs}


def bare(op, opset):
    """A node of this name and nothing else that would be checked on the way."""
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], name="n")], "g",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


def test_what_onnx_has_changed_is_refused_or_proven_across_the_change(tmp_path):
    accepted = set()
    for op, versions in changed_versions().items():
        onnx.save(bare(op, versions[0] - 1), tmp_path / "bare.onnx")
        ended = subprocess.run([RAISE, tmp_path / "bare.onnx", tmp_path / "out.onnx"], capture_output=True, text=True)
        if ended.returncode == 0:
            accepted.add(op)
            for v in versions:
                assert any(c.op == op for c in cases_of(v - 1)), f"{op} changed in opset {v} and no case says that it may pass"
        else:
            assert ended.stderr.startswith("export.form: node 0 'n'") and f"{op} has no equal form in opset 21" in ended.stderr
    assert {"Add", "Split", "ReduceMean", "Pad", "Resize"} <= accepted and not {"GroupNormalization", "If", "GRU"} & accepted


# ---- what cannot be said, and what is left alone ----

def test_training_and_factors_per_group_are_refused_with_a_remedy(tmp_path):
    for op, inputs, outputs, opset, why in (
            ("BatchNormalization", ["x", "s", "s", "s", "s"], ["y", "mean", "var"], 13, "statistics"),
            ("GroupNormalization", ["x", "s", "s"], ["y"], 18, "per group")):
        graph = helper.make_graph([helper.make_node(op, inputs, outputs, name="norm")], "g",
                                  [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 2])],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
                                  [numpy_helper.from_array(np.ones(4, np.float32), "s")])
        message = raised(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), tmp_path, status=1)
        assert message.startswith(f"export.form: node 0 'norm' ({op})") and why in message and "opset_version=21" in message


def test_a_model_that_is_there_already_is_left_alone(tmp_path):
    model = bare("Relu", 22)
    model.ir_version = 10
    onnx.save(model, tmp_path / "a.onnx")
    subprocess.run([RAISE, tmp_path / "a.onnx", tmp_path / "b.onnx"], check=True)
    same = onnx.load(tmp_path / "b.onnx")
    assert (same.ir_version, same.opset_import[0].version, str(same.graph.node)) == (10, 22, str(model.graph.node))


# ---- whole models ----

def roles(model):
    """What would be quantized, what around it is recognised, and why the rest stays float."""
    told = json.loads(repquant("inspect", model, "--json"))
    assert told["layers"] and told["norms"]
    return {part: told[part] for part in ("layers", "norms", "softmaxes", "activations", "left_float")}


def proven(model, arrays, folder):
    """The raised file gives the logits of the one it came from, in ONNX Runtime and in our engine, which finds the same layers and norms."""
    out = raised(model, folder)
    assert roles(out) == roles(model)
    want, theirs, ours = run_theirs(model, arrays), run_theirs(out, arrays), run_ours(out, arrays, pathlib.Path(folder))
    assert list(want) == list(theirs) == list(ours)
    for name, w in want.items():
        largest = np.abs(w).max()
        assert np.abs(theirs[name] - w).max() <= 1e-6 * largest and np.abs(ours[name] - w).max() <= 1e-4 * largest


@needs(*VITS.values())
@pytest.mark.parametrize("family", VITS)
def test_a_vision_transformer_keeps_its_logits(family, tmp_path):
    x = onnx.load(VITS[family], load_external_data=False).graph.input[0]
    proven(VITS[family], {x.name: rng(4, 3, 224, 224, lo=-2, hi=2)}, tmp_path)


@needs(STORIES260K)
def test_a_language_model_keeps_its_logits(tmp_path):
    proven(STORIES260K, {"input_ids": np.random.default_rng(5).integers(0, 512, (4, 33))}, tmp_path)


def test_a_quantized_model_keeps_every_bit(tmp_path):
    artifact = quantize(DIGITS / "model.onnx", DIGITS / "calib.npz", tmp_path) / "model.onnx"
    arrays = load(DIGITS / "calib.npz")
    out = raised(artifact, tmp_path)
    for run in (run_theirs, lambda *what: run_ours(*what, tmp_path)):
        before, after = run(artifact, arrays), run(out, arrays)
        assert before and all(before[name].tobytes() == after[name].tobytes() for name in before)


# ---- what it is for: weights of four bits ----

def test_weights_stored_in_four_bits_behind_a_cast_give_the_bits_of_eight(tmp_path):
    g = np.random.default_rng(6)
    codes = g.integers(-8, 8, (15, 9)).astype(np.int8)
    arrays = {"x": g.standard_normal((8, 7, 15)).astype(np.float32)}
    weights = {"s": np.float32(0.03), "z": np.uint8(120), "ws": g.uniform(0.01, 0.1, 9).astype(np.float32), "wz": np.zeros(9, np.int8)}
    linear = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]), helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
              helper.make_node("DequantizeLinear", ["codes", "ws", "wz"], ["w"], axis=1), helper.make_node("MatMul", ["d", "w"], ["y"])]
    packed = helper.make_tensor("packed", TensorProto.INT4, codes.shape, codes.ravel())
    results = []
    for nodes_, codes_ in (([], numpy_helper.from_array(codes, "codes")), ([helper.make_node("Cast", ["packed"], ["codes"], to=TensorProto.INT8)], packed)):
        graph = helper.make_graph(nodes_ + linear, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 7, 15])],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 7, 9])],
                                  [codes_, *(numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items())])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", NEWEST)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, tmp_path / "m.onnx")
        results += [run_theirs(tmp_path / "m.onnx", arrays)["y"], run_ours(tmp_path / "m.onnx", arrays, tmp_path)["y"]]
    assert all(r.tobytes() == results[0].tobytes() for r in results)
