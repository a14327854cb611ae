"""Models with functions, If and Loop: run as in ONNX Runtime, shown in their roles, quantized to a graph without any of them."""
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from conftest import ROOT
from support import quantize, repquant, run_ours, run_theirs

WIDTH, LENGTH, OPSET = 32, 6, 17
RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, LENGTH, WIDTH)).astype(np.float32)
node = helper.make_node


def value(name, shape=None, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def weight(name, *shape):
    return tensor(name, RNG.normal(0, 0.2, shape).astype(np.float32))


def model(nodes, inits, functions=(), outputs=("y",)):
    graph = helper.make_graph(nodes, "g", [value("x", ["batch", LENGTH, WIDTH])], [value(o) for o in outputs], inits)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("pkg", 1)], ir_version=10,
                             functions=list(functions))


def saved(m, path):
    onnx.save(m, path)
    return path


def runs_as_theirs(m, folder, outputs=None):
    path = saved(m, folder / "model.onnx")
    theirs, ours = run_theirs(path, {"x": X}, len(X)), run_ours(path, {"x": X}, folder)
    assert set(ours) == set(theirs) == set(outputs or ["y"])
    for name, want in theirs.items():
        assert ours[name].shape == want.shape and np.abs(ours[name] - want).max() <= 1e-4 * np.abs(want).max()
    return path, theirs


def refused(m, folder, *words):
    ended = repquant("inspect", saved(m, folder / "model.onnx"), status=None)
    assert ended.returncode == 1
    for word in words:
        assert word in ended.stderr


# ---- functions ----

def function(name, inputs, nodes, attributes=(), defaults=()):
    return helper.make_function("pkg", name, inputs, ["y"], nodes, [helper.make_opsetid("", OPSET), helper.make_opsetid("pkg", 1)],
                                attributes=list(attributes), attribute_protos=list(defaults))


def referring(n, name, ref, kind):
    n.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=ref, type=kind))
    return n


# As torch.onnx.dynamo_export writes modules: each one a function, weights handed in, functions that call functions.
LINEAR = function("Linear", ["x", "w", "b"], [node("Transpose", ["w"], ["t"], perm=[1, 0]), node("MatMul", ["x", "t"], ["p"]),
                                              node("Add", ["p", "b"], ["y"])])
NORM = function("LayerNorm", ["x", "w", "b"], [referring(node("LayerNormalization", ["x", "w", "b"], ["y"], axis=-1), "epsilon", "eps",
                                                          onnx.AttributeProto.FLOAT)], ["eps"])
SCALE = function("Scale", ["x"], [referring(node("Constant", [], ["c"]), "value_float", "by", onnx.AttributeProto.FLOAT),
                                  node("Mul", ["x", "c"], ["y"])], defaults=[helper.make_attribute("by", 0.5)])
MLP = function("Mlp", ["x", "g", "e", "w1", "b1", "w2", "b2"], [
    node("LayerNorm", ["x", "g", "e"], ["n"], domain="pkg", eps=1e-3, name="norm"),
    node("Linear", ["n", "w1", "b1"], ["a"], domain="pkg", name="fc1"),
    node("Relu", ["a"], ["r"]), node("Scale", ["r"], ["h"], domain="pkg"), node("Scale", ["h"], ["d"], domain="pkg", by=3.0),
    node("Identity", ["d"], ["i"]), node("Linear", ["i", "w2", "b2"], ["o"], domain="pkg", name="fc2"), node("Add", ["x", "o"], ["y"])])


def modules():
    nodes, inits, x = [], [], "x"
    for i in range(2):
        shapes = {"gamma": (WIDTH,), "beta": (WIDTH,), "w1": (2 * WIDTH, WIDTH), "b1": (2 * WIDTH,), "w2": (WIDTH, 2 * WIDTH), "b2": (WIDTH,)}
        inits += [weight(f"{name}_{i}", *shape) for name, shape in shapes.items()]
        y = "y" if i else "middle"
        nodes.append(node("Mlp", [x, *(f"{name}_{i}" for name in shapes)], [y], domain="pkg", name=f"blocks.{i}.mlp"))
        x = y
    return model(nodes, inits, [LINEAR, NORM, SCALE, MLP])


def test_modules_written_as_functions_run_and_have_their_roles(tmp_path):
    path, _ = runs_as_theirs(modules(), tmp_path)
    told = json.loads(repquant("inspect", path, "--json"))
    assert {layer["name"] for layer in told["layers"]} == {f"blocks.{i}.mlp.{fc}" for i in range(2) for fc in ("fc1", "fc2")}
    assert {layer["role"] for layer in told["layers"]} == {"linear"} and len(told["norms"]) == 2


@pytest.mark.parametrize("recipe", ["percentile-w8a8", "repquant-w4a8"])
def test_what_is_quantized_from_functions_has_none(recipe, tmp_path):
    path, want = runs_as_theirs(modules(), tmp_path)
    np.savez(tmp_path / "calib.npz", x=X)
    out = quantize(path, tmp_path / "calib.npz", tmp_path, recipe)
    artifact = onnx.load(out / "model.onnx")
    assert not artifact.functions and {n.domain for n in artifact.graph.node} == {""}
    got = run_theirs(out / "model.onnx", {"x": X})["y"]
    assert np.abs(got - want["y"]).max() < 0.15 * np.abs(want["y"]).max()


def test_names_of_bodies_never_meet_those_of_the_model(tmp_path):
    """A call's inner nodes and tensors would be called like the model's own."""
    twice = function("Twice", ["x"], [node("Neg", ["x"], ["inner"], name="n"), node("Neg", ["inner"], ["y"])])
    nodes = [node("Abs", ["x"], ["same/inner"], name="same/n"), node("Twice", ["same/inner"], ["z"], domain="pkg", name="same"),
             node("MatMul", ["z", "w"], ["y"], name="fc")]
    path, _ = runs_as_theirs(model(nodes, [weight("w", WIDTH, WIDTH)], [twice]), tmp_path)
    np.savez(tmp_path / "calib.npz", x=X)
    out = quantize(path, tmp_path / "calib.npz", tmp_path)
    nodes = onnx.load(out / "model.onnx").graph.node
    for written in ([name for n in nodes for name in n.output], [n.name for n in nodes]):
        assert len(set(written)) == len(written)
    run_theirs(out / "model.onnx", {"x": X})


def test_one_value_may_be_several_outputs_of_a_function(tmp_path):
    f = helper.make_function("pkg", "F", ["x"], ["a", "a2", "x2"], [node("Neg", ["x"], ["a"]), node("Identity", ["a"], ["a2"]),
                                                                   node("Identity", ["x"], ["x2"])], [helper.make_opsetid("", OPSET)])
    nodes = [node("F", ["x"], ["y", "y2", "x2"], domain="pkg"), node("Abs", ["x2"], ["y3"])]
    runs_as_theirs(model(nodes, [], [f], ["y", "y2", "y3"]), tmp_path, ["y", "y2", "y3"])


def test_an_input_that_a_call_leaves_out_is_absent_in_the_body(tmp_path):
    clip = function("F", ["x", "low", "high"], [node("Clip", ["x", "low", "high"], ["y"])])
    call = [node("F", ["x", "", "top"], ["y"], domain="pkg", name="the_call")]
    runs_as_theirs(model(call, [tensor("top", np.float32(0.5))], [clip]), tmp_path)
    for needs in ([node("Add", ["x", "low"], ["y"])], [node("Identity", ["low"], ["y"])], [node("Concat", ["x", "low"], ["y"], axis=0)],
                  [node("Identity", ["low"], ["l"]), node("Neg", ["l"], ["y"])]):
        refused(model([node("F", ["x"], ["y"], domain="pkg", name="the_call")], [], [function("F", ["x", "low"], needs)]), tmp_path,
                "the_call/", "not optional")


def test_functions_that_cannot_be_written_out_are_refused_by_name(tmp_path):
    call = [node("F", ["x"], ["y"], domain="pkg", name="the_call")]
    refused(model(call, []), tmp_path, "the_call", "F")
    itself = function("F", ["x"], [node("F", ["x"], ["y"], domain="pkg")])
    refused(model(call, [], [itself]), tmp_path, "the_call", "no end")
    older = function("F", ["x"], [node("Neg", ["x"], ["y"])])
    older.opset_import[0].version = 13
    refused(model(call, [], [older]), tmp_path, "the_call", "opset 13")
    unknown = function("F", ["x"], [node("Nothing", ["x"], ["y"], domain="pkg")])
    refused(model(call, [], [unknown]), tmp_path, "the_call/Nothing", "not supported")


# ---- If ----

def branches():
    """One shifts and reads outer tensors, the other passes on what it reads."""
    shifted = helper.make_graph([node("Add", ["x", "shift"], ["s"]), node("Mul", ["s", "own"], ["t"])], "then", [], [value("t")],
                                [weight("own", WIDTH)])
    same = helper.make_graph([node("Identity", ["x"], ["e"])], "else", [], [value("e")])
    return {"then_branch": shifted, "else_branch": same}


def by_length(least):
    """If the length, an output of Shape, is over `least`."""
    nodes = [node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "axis"], ["length"], axis=0), node("Greater", ["length", "least"], ["c"]),
             node("If", ["c"], ["chosen"], name="/If", **branches()), node("MatMul", ["chosen", "w"], ["y"], name="/fc/MatMul")]
    return nodes, [weight("shift", WIDTH), weight("w", WIDTH, WIDTH), tensor("axis", np.int64(1)), tensor("least", np.int64(least))]


@pytest.mark.parametrize("least", [LENGTH - 1, LENGTH], ids=["then", "else"])
def test_the_branch_that_a_length_chooses_takes_the_place_of_an_if(least, tmp_path):
    path, _ = runs_as_theirs(model(*by_length(least)), tmp_path)
    told = json.loads(repquant("inspect", path, "--json"))
    assert [layer["name"] for layer in told["layers"]] == ["fc"]
    assert told["nodes"] == (3 if least < LENGTH else 1)


def test_branches_inside_branches_read_what_is_around_them(tmp_path):
    inner = helper.make_graph([node("Sub", ["a", "x"], ["b"])], "inner", [], [value("b")])
    other = helper.make_graph([node("Neg", ["a"], ["n"])], "other", [], [value("n")])
    outer = helper.make_graph([node("Add", ["x", "shift"], ["a"]), node("If", ["yes"], ["o"], then_branch=inner, else_branch=other)], "outer", [],
                              [value("o")])
    never = helper.make_graph([node("Abs", ["x"], ["z"])], "never", [], [value("z")])
    nodes = [node("If", ["yes"], ["y"], then_branch=outer, else_branch=never)]
    runs_as_theirs(model(nodes, [weight("shift", WIDTH), tensor("yes", np.True_)]), tmp_path)


def test_layers_that_share_a_weight_still_do_behind_bodies(tmp_path):
    """The weight comes out of a branch inside a branch, and out of a function."""
    same = helper.make_graph([node("Identity", ["w"], ["s"])], "same", [], [value("s")])
    inside = helper.make_graph([node("If", ["yes"], ["i"], then_branch=same, else_branch=same)], "inside", [], [value("i")])
    given = function("Given", ["x"], [node("Identity", ["x"], ["y"])])
    nodes = [node("If", ["yes"], ["w1"], then_branch=inside, else_branch=inside), node("Given", ["w"], ["w2"], domain="pkg"),
             node("MatMul", ["x", "w1"], ["h"], name="fc1"), node("Tanh", ["h"], ["t"]), node("MatMul", ["t", "w2"], ["y"], name="fc2")]
    path, _ = runs_as_theirs(model(nodes, [weight("w", WIDTH, WIDTH), tensor("yes", np.True_)], [given]), tmp_path)
    told = json.loads(repquant("inspect", path, "--json"))
    assert [layer["shared_weight"] for layer in told["layers"]] == [True, True]


def test_an_if_that_the_data_decide_is_refused_by_name(tmp_path):
    nodes, inits = by_length(3)
    nodes[1:3] = [node("ReduceMax", ["x"], ["most"], keepdims=0), node("Greater", ["most", "least"], ["c"])]
    inits[-1] = tensor("least", np.float32(1))
    refused(model(nodes, inits), tmp_path, "'/If' (If)", "condition")


# ---- Loop ----

def loop_body(condition, steps):
    """v = tanh(v w) + i; collects v and, as a scalar, i."""
    return helper.make_graph(
        [node("MatMul", ["v", "w"], ["p"], name="fc"), node("Tanh", ["p"], ["t"]), node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
         node("Add", ["t", "f"], ["v2"]), *condition, *steps], "body",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("v")],
        [value("go2", [], TensorProto.BOOL), value("v2"), value("v3"), value("f2", [])])


FOREVER = [node("Identity", ["go"], ["go2"])]
COLLECT = [node("Neg", ["v2"], ["v3"]), node("Identity", ["f"], ["f2"])]


def looping(trips, condition=FOREVER, first="", body=None, more=()):
    body = body or loop_body(condition, COLLECT)
    nodes = [node("Loop", ["trips" if trips is not None else "", first, "x"], ["y", "all", "numbers"], body=body, name="loop"),
             node("Transpose", ["all"], ["y2"], perm=[1, 0, 2, 3]), node("Add", ["numbers", "zero"], ["n"]), node("ReduceSum", ["n"], ["sum"], keepdims=0),
             node("Add", ["y", "sum"], ["y3"])]
    inits = [weight("w", WIDTH, WIDTH), tensor("zero", np.float32(0)), *more]
    return model(nodes, inits + ([tensor("trips", np.int64(trips))] if trips is not None else []), outputs=["y", "y2", "y3"])


def test_a_loop_is_written_out(tmp_path):
    path, _ = runs_as_theirs(looping(3), tmp_path, ["y", "y2", "y3"])
    told = json.loads(repquant("inspect", path, "--json"))
    assert [layer["name"] for layer in told["layers"]] == [f"loop.{i}.fc" for i in range(3)]
    np.savez(tmp_path / "calib.npz", x=X)
    out = quantize(path, tmp_path / "calib.npz", tmp_path)
    assert not {"Loop", "If"} & {n.op_type for n in onnx.load(out / "model.onnx").graph.node}


def test_a_loop_ends_where_its_condition_says(tmp_path):
    until = [node("Less", ["i", "last"], ["go2"])]
    more = [tensor("last", np.int64(4)), tensor("start", np.True_)]
    path, theirs = runs_as_theirs(looping(None, until, "start", more=more), tmp_path, ["y", "y2", "y3"])
    assert theirs["y2"].shape[1] == 5


def test_a_long_loop_collects_more_than_one_concat_takes(tmp_path):
    _, theirs = runs_as_theirs(looping(256), tmp_path, ["y", "y2", "y3"])
    assert theirs["y2"].shape[1] == 256


def test_loops_that_cannot_be_written_out_are_refused_by_name(tmp_path):
    refused(looping(257), tmp_path, "'loop' (Loop)", "256")
    refused(looping(0), tmp_path, "'loop' (Loop)", "no iteration")
    by_data = [node("ReduceMax", ["v2"], ["most"], keepdims=0), node("Less", ["most", "limit"], ["go2"])]
    refused(looping(9, by_data, more=[tensor("limit", np.float32(2))]), tmp_path, "'loop' (Loop)", "condition after an iteration")
    m = looping(3)
    m.graph.node.insert(0, node("Shape", ["x"], ["shape"]))
    m.graph.node.insert(1, node("Gather", ["shape", "first"], ["batch"], axis=0))
    m.graph.initializer.append(tensor("first", np.int64(0)))
    m.graph.node[2].input[0] = "batch"
    refused(m, tmp_path, "'loop' (Loop)", "trip count")
    # Loops in loops: 256^3 iterations.
    body = loop_body(FOREVER, COLLECT)
    for _ in range(2):
        wrapped = node("Loop", ["many", "", "v"], ["v2", "all", "all_numbers"], body=body)
        names = [n.output[0] for n in COLLECT]
        body = helper.make_graph([wrapped, *FOREVER, node("Neg", ["v2"], [names[0]]), node("Cast", ["i"], [names[1]], to=TensorProto.FLOAT)], "b",
                                 body.input, body.output)
    refused(looping(256, body=body, more=[tensor("many", np.int64(256))]), tmp_path, "written out")


# ---- the zoo, with its nodes in bodies ----

ZOO = sorted((ROOT / "tests" / "golden" / "zoo").glob("*.onnx"))
CHUNK = 20


def chunks_of(m):
    """(nodes, what they read from outside, what of theirs is read outside), CHUNK nodes at a time."""
    nodes = list(m.graph.node)
    parts = [nodes[at:at + CHUNK] for at in range(0, len(nodes), CHUNK)]
    for i, part in enumerate(parts):
        made = {name for n in part for name in n.output if name}
        wanted = {name for other in parts[i + 1:] for n in other for name in n.input} | {o.name for o in m.graph.output}
        yield part, sorted({name for n in part for name in n.input if name} - made), sorted(made & wanted)


def in_bodies(source, how):
    """The same model with every node in a function, or in the branch of an If."""
    m = onnx.load(source)
    opsets, calls = list(m.opset_import), []
    for i, (part, reads, gives) in enumerate(chunks_of(m)):
        if how == "functions":
            m.functions.append(helper.make_function("parts", f"Part{i}", reads, gives, part, opsets))
            calls.append(node(f"Part{i}", reads, gives, domain="parts", name=f"part{i}"))
        else:
            branch = helper.make_graph(part, f"part{i}", [], [onnx.ValueInfoProto(name=name) for name in gives])
            calls.append(node("If", ["always__"], gives, then_branch=branch, else_branch=branch, name=f"part{i}"))
    del m.graph.node[:], m.graph.value_info[:]
    m.graph.node.extend(calls)
    m.graph.initializer.append(tensor("always__", np.True_))
    m.opset_import.append(helper.make_opsetid("parts", 1))
    return m


@pytest.mark.parametrize("how", ["functions", "branches"])
@pytest.mark.parametrize("source", ZOO, ids=lambda path: path.stem)
def test_bodies_change_nothing_of_a_model(source, how, tmp_path):
    """The graph that is loaded is the one without bodies: the same layers, and outputs that are the same to the bit."""
    path = saved(in_bodies(source, how), tmp_path / "m.onnx")
    told = [json.loads(repquant("inspect", p, "--json")) for p in (source, path)]
    assert told[0]["nodes"] == told[1]["nodes"] and told[0]["ops"] == told[1]["ops"] and len(told[0]["layers"])
    for key, fields in {"layers": ("op", "role", "shape", "params", "shared_weight"), "left_float": ("op", "reason"), "norms": ("kind",)}.items():
        assert [[row.get(f) for f in fields] for row in told[0][key]] == [[row.get(f) for f in fields] for row in told[1][key]]
    arrays = {i["name"]: RNG.integers(0, 2, [2, *(d if isinstance(d, int) else 5 for d in i["shape"][1:])]).astype(i["dtype"]) for i in told[0]["inputs"]}
    (plain,), (ours,) = (run_ours(p, arrays, tmp_path).values() for p in (source, path))
    np.testing.assert_array_equal(plain, ours)
