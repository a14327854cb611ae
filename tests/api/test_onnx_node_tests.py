"""The node tests of the pinned `onnx` package through our executor: its models, its inputs, its expected outputs.

A test is listed if every operator of its model is one that LISTED names and no tensor has a type we do not compute with.
Each runs twice: on data that are known only when the model runs, and on constants (the folding kernels).  What is not
listed is counted by its reason; reals are held to the tolerance that the package gives a test, integers must be equal; test_count() prints the numbers and holds the number of passed ones to a floor.
"""
import functools
import os
import subprocess
import tempfile
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

REPQUANT = Path(os.environ.get("REPQUANT", Path(__file__).parents[2] / "build" / "repquant"))
LEAST_OPSET = 11
FLOOR = 1300  # tests that must pass

# ---- what is not listed, and why ----

NOT_LISTED = {
    "text, which the engine does not hold": "RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer",
    "sequences and optionals are no tensors": "OptionalGetElement OptionalHasElement SequenceInsert SequenceMap SplitToSequence "
                                              "SequenceConstruct SequenceAt SequenceEmpty SequenceLength ConcatFromSequence Optional",
    "random numbers": "Bernoulli RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial",
    "signal processing in front of a model": "BlackmanWindow DFT HammingWindow HannWindow MelWeightMatrix STFT",
    "decodes pictures": "ImageDecoder",
    "recurrent networks": "GRU LSTM RNN",
    "training": "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss Adagrad Adam Momentum",
    "the shape of the output depends on the data": "Compress NonMaxSuppression Unique",
    "samples pictures at computed places; no transformer's export has it":
        "AffineGrid Col2Im ConvTranspose DeformConv GridSample MaxUnpool RoiAlign Upsample",
    "not in exports of transformers": "BitCast Det LRN LpPool ReverseSequence Scan",
    "linear attention and state spaces, preview operators": "CausalConvWithState FlexAttention LinearAttention TensorScatter",
    "removed from ONNX before opset 11": "Scatter",
    "classical machine learning": "ArrayFeatureExtractor Binarizer LabelEncoder TreeEnsemble",
}
REASONS = {op: reason for reason, ops in NOT_LISTED.items() for op in ops.split()}

# Inputs that decide shapes and so must be constants (a number: of that position).
STATIC = {
    "Reshape": [1], "Expand": [1], "Tile": [1], "Pad": [1, 3], "Slice": [1, 2, 3, 4], "Squeeze": [1], "Unsqueeze": [1], "Split": [1],
    "ConstantOfShape": [0], "Range": [0, 1, 2], "TopK": [1], "Resize": [1, 2, 3], "OneHot": [1], "CenterCropPad": [1],
    "NonZero": [0], "If": [0], "Loop": [0, 1], "CumSum": [1], "CumProd": [1],
    **{op: [1] for op in ("ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
                          "ReduceSumSquare").split()},
}
# What only the folded run can know: shapes, and which branch or how many iterations, where nodes compute them from inputs.
KNOWN_FOLDED = ("model.dynamic_dim_unbound", "(If): its condition depends on the data", "(Loop): its trip count depends on the data")
TYPES = {TensorProto.DataType.Value(name) for name in
         "FLOAT DOUBLE FLOAT16 BFLOAT16 INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 BOOL INT4 UINT4".split()}


def graphs_of(graph):
    yield graph
    for node in graph.node:
        for a in node.attribute:
            if a.type == onnx.AttributeProto.GRAPH:
                yield from graphs_of(a.g)


def nodes_of(model):
    for graph in graphs_of(model.graph):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def opset_of(model):
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def types_of(model):
    for value in [*model.graph.input, *model.graph.output]:
        kind = value.type.WhichOneof("value")
        yield value.type.tensor_type.elem_type if kind == "tensor_type" else 0
    for node in nodes_of(model):
        for a in node.attribute:
            if a.name in ("to", "output_dtype", "dtype", "stash_type", "softmax_precision") and a.type == onnx.AttributeProto.INT and a.i:
                yield a.i


def why_not(test):
    """Why a test is not listed; None: it is."""
    model = test.model
    reasons = [REASONS[n.op_type] for n in nodes_of(model) if n.op_type in REASONS]
    if reasons:
        return reasons[0]
    types = set(types_of(model))
    if 0 in types:
        return "sequences and optionals are no tensors"
    if TensorProto.STRING in types:
        return "text, which the engine does not hold"
    if not types <= TYPES:
        return "8-bit floats, and types of at most 4 bits other than int4 and uint4"
    if opset_of(model) < LEAST_OPSET:
        return f"an opset before {LEAST_OPSET}"
    if any(n.op_type == "Dropout" and (len(n.output) > 1 or len(n.input) > 2 and n.input[2]) for n in nodes_of(model)) or \
            any(a.name == "training_mode" and a.i for n in nodes_of(model) for a in n.attribute):
        return "training"
    return None


@functools.cache
def node_tests():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests
        return load_model_tests(kind="node")


@functools.cache
def listed():
    return {t.name: t for t in node_tests() if why_not(t) is None}


# ---- a test's model with its inputs inside ----

def array_of(x):
    return numpy_helper.to_array(x) if isinstance(x, TensorProto) else np.asarray(x)


def static_inputs(model):
    names = set()
    for node in nodes_of(model):
        names |= {node.input[i] for i in STATIC.get(node.op_type, ()) if i < len(node.input)}
    return names


def wrap(test, constant):
    """The test's inputs become rows of constants picked by an input of zeros (or plain constants), its outputs samples."""
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    graph = model.graph
    inputs, outputs = test.data_sets[0]
    static = static_inputs(model)
    before = []
    for value, x in zip(graph.input, inputs):
        kind, array = value.type.tensor_type.elem_type, array_of(x)
        tensor = x if isinstance(x, TensorProto) else numpy_helper.from_array(array, value.name)
        held = TensorProto()
        held.CopyFrom(tensor)
        fixed = constant or value.name in static or kind in (TensorProto.INT4, TensorProto.UINT4)
        held.name = value.name if fixed else value.name + "__rows"
        if not fixed and array.ndim == 0:
            held.dims.extend([1])
        graph.initializer.append(held)
        if fixed:
            continue
        rows, at = helper.make_tensor(value.name + "__at", TensorProto.INT64, [max(array.shape[0], 0) if array.ndim else 1],
                                      np.arange(array.shape[0] if array.ndim else 1)), value.name + "__from"
        graph.initializer.append(rows)
        before.append(helper.make_node("Add", [rows.name, "zero__"], [at]))
        if array.ndim == 0:
            graph.initializer.append(helper.make_tensor(value.name + "__scalar", TensorProto.INT64, [0], []))
            before.append(helper.make_node("Reshape", [at, value.name + "__scalar"], [at + "0"]))
            at += "0"
        before.append(helper.make_node("Gather", [held.name, at], [value.name], axis=0))
    nodes = before + list(graph.node)
    wanted = {}
    for value, y in zip(list(graph.output), outputs):
        array, name = array_of(y), value.name
        if value.type.tensor_type.elem_type not in NPZ_TYPES:
            nodes.append(helper.make_node("Cast", [name], [name + "__float"], to=TensorProto.FLOAT))
            array, name = array.astype(np.float32), name + "__float"
        # A first axis of one sample, as repquant run wants it.
        if opset_of(model) < 13:
            nodes.append(helper.make_node("Unsqueeze", [name], [name + "__row"], axes=[0]))
        else:
            graph.initializer.append(helper.make_tensor(name + "__axis", TensorProto.INT64, [1], [0]))
            nodes.append(helper.make_node("Unsqueeze", [name, name + "__axis"], [name + "__row"]))
        wanted[name + "__row"] = array
    nodes.append(helper.make_node("Neg", ["zero__"], ["negated__"]))
    for field in (graph.node, graph.input, graph.output):
        del field[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("zero__", TensorProto.INT64, [1]))
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in [*wanted, "negated__"])
    return model, wanted


NPZ_TYPES = TYPES - {TensorProto.BFLOAT16, TensorProto.INT4, TensorProto.UINT4}


# ---- running ----

def relative(test):
    """The package's tolerance; where a 16-bit float's own steps are wider, two of those: each operator rounds once, and the
    package's reference rounds between them in its own order."""
    kinds = set(types_of(test.model))
    return max(test.rtol, 2**-6 if TensorProto.BFLOAT16 in kinds else 0, 2**-9 if TensorProto.FLOAT16 in kinds else 0)


def differs(name, got, want, test):
    if got.dtype != want.dtype or got.shape != want.shape:
        return f"{name}: {got.dtype}{got.shape}, expected {want.dtype}{want.shape}"
    try:
        if want.dtype.kind == "f":
            np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=relative(test), atol=test.atol)
        else:
            np.testing.assert_array_equal(got, want)
    except AssertionError as e:
        return f"{name}: {e}"
    return ""


def failure_of(test, constant):
    """What goes wrong with a test; "": nothing."""
    model, wanted = wrap(test, constant)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "model.onnx").write_bytes(model.SerializeToString())
        np.savez(path / "x.npz", zero__=np.zeros(1, np.int64))
        done = subprocess.run([REPQUANT, "run", path / "model.onnx", "--inputs", path / "x.npz", "--outputs", path / "y.npz",
                               "--threads", "1"], capture_output=True, text=True, timeout=60)
        if done.returncode != 0 and not constant and any(text in done.stderr for text in KNOWN_FOLDED):
            return ""
        if done.returncode != 0:
            return f"exit {done.returncode}: {done.stderr}"
        with np.load(path / "y.npz") as z:
            return "\n".join(filter(None, (differs(name, z[name][0], array, test) for name, array in wanted.items())))


@functools.cache
def results():
    jobs = [(name, constant) for name in listed() for constant in (False, True)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(jobs, pool.map(lambda job: failure_of(listed()[job[0]], job[1]), jobs)))


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", list(listed()))


@pytest.mark.parametrize("constant", [False, True], ids=["run", "folded"])
def test_node(name, constant):
    failure = results()[name, constant]
    assert not failure, failure


def test_count(capsys):
    failed = {name for (name, _), failure in results().items() if failure}
    left_out = Counter(filter(None, map(why_not, node_tests())))
    with capsys.disabled():
        print(f"\nonnx {onnx.__version__} node tests: {len(listed()) - len(failed)} passed, {len(failed)} failed, "
              f"{sum(left_out.values())} not listed:")
        for reason, n in left_out.most_common():
            print(f"  {n:4} {reason}: {REASON_OPS.get(reason, 'any operator')}")
    assert not failed
    assert len(listed()) >= FLOOR


REASON_OPS = {reason: ", ".join(ops.split()) for reason, ops in NOT_LISTED.items()}
