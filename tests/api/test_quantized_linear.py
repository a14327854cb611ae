"""A quantized layer computes the same bytes in `repquant run` and in ONNX Runtime.

Each case is one layer on random data with heavy tails, quantized by `repquant quantize` with random calibration data and run on
other data that leave the calibrated range, so that codes saturate.  Nothing is rounded away: the outputs are compared bit by bit.
"""
import zlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import quantize, run_ours, run_theirs, session

SAMPLES = 32
TARGETS = {"uint8": "onnxruntime", "int8": "portable"}


def model(nodes, inputs, weights, opset=17):
    """One graph; inputs are shapes by name, "b" is the batch; the output is y."""
    graph = helper.make_graph(
        nodes, "layer", [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", *shape]) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [numpy_helper.from_array(v, k) for k, v in weights.items()])
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    m = onnx.shape_inference.infer_shapes(m, strict_mode=True)
    onnx.checker.check_model(m)
    return m


def weight(rng, *shape):
    """Output channels of very different reach, a few outliers."""
    w = rng.standard_normal(shape) * np.exp(rng.uniform(-3, 3, shape[-1]))
    return np.where(rng.random(shape) < 0.01, w * 8, w).astype(np.float32)


def linear(rng, t, k, n):
    """MatMul and a bias behind it, on sequences."""
    w = {"w": weight(rng, k, n), "c": weight(rng, n)}
    return model([helper.make_node("MatMul", ["x", "w"], ["p"], "fc"), helper.make_node("Add", ["p", "c"], ["y"])], {"x": [t, k]}, w)


def matrix(rng, k, n):
    """MatMul on matrices, no bias."""
    return model([helper.make_node("MatMul", ["x", "w"], ["y"], "fc")], {"x": [k]}, {"w": weight(rng, k, n)})


def gemm(rng, k, n):
    """Gemm with the weight transposed and a bias, as torch writes a Linear on matrices."""
    w = {"w": np.ascontiguousarray(weight(rng, k, n).T), "c": weight(rng, n)}
    return model([helper.make_node("Gemm", ["x", "w", "c"], ["y"], "fc", transB=1)], {"x": [k]}, w)


def product(rng, heads, t, k, n):
    """Two activations, as q.k and p.v."""
    return model([helper.make_node("MatMul", ["x", "z"], ["y"], "qk")], {"x": [heads, t, k], "z": [heads, k, n]}, {})


def conv(rng, c, size, p, m):
    """A patch embedding."""
    w = {"w": weight(rng, p, p, c, m).transpose(3, 2, 0, 1).copy(), "c": weight(rng, m)}
    return model([helper.make_node("Conv", ["x", "w", "c"], ["y"], "patch", kernel_shape=[p, p], strides=[p, p])], {"x": [c, size, size]}, w)


CASES = [
    (linear, (7, 1, 5)), (linear, (1, 3, 1)), (linear, (5, 64, 48)), (linear, (3, 514, 17)), (linear, (3, 515, 16)),
    (linear, (2, 1100, 33)), (linear, (2, 3072, 64)),
    (matrix, (1, 1)), (matrix, (65, 31)), (matrix, (514, 8)), (matrix, (1600, 9)),
    (gemm, (1, 3)), (gemm, (64, 10)), (gemm, (515, 21)), (gemm, (2049, 12)),
    (product, (2, 5, 1, 3)), (product, (3, 17, 64, 17)), (product, (1, 3, 600, 7)), (product, (2, 9, 1030, 4)),
    (conv, (1, 4, 2, 3)), (conv, (3, 32, 16, 24)), (conv, (3, 28, 14, 9)), (conv, (1, 3, 1, 2)),
]


def values(rng, shape, reach):
    """Mostly of size one, some outliers `reach` times as large."""
    x = rng.standard_normal(shape)
    return np.where(rng.random(shape) < 0.02, x * reach, x + 0.3).astype(np.float32)


def arrays_for(m, rng, reach):
    return {i.name: values(rng, [SAMPLES, *(d.dim_value for d in i.type.tensor_type.shape.dim[1:])], reach) for i in m.graph.input}


def difference(ours, theirs):
    where = np.argwhere(ours != theirs)
    return (f"{len(where)} of {ours.size} differ, at most by {np.abs(ours - theirs).max()}; "
            f"first at {where[0]}: {ours[tuple(where[0])]!r} ours, {theirs[tuple(where[0])]!r} in ONNX Runtime")


def quantized(m, folder, rng, preset="minmax-w8a8", target="onnxruntime", reach=4):
    """The artifact of a layer, calibrated on random data."""
    onnx.save(m, folder / "model.onnx")
    np.savez(folder / "calib.npz", **arrays_for(m, rng, reach))
    recipe = {**(preset if isinstance(preset, dict) else {"preset": preset}), "target": target}
    return quantize(folder / "model.onnx", folder / "calib.npz", folder, recipe) / "model.onnx"


def saturated(artifact, name, x):
    """How many values of the input x fall outside what its QuantizeLinear can say."""
    m = onnx.load(artifact)
    constants = {i.name: numpy_helper.to_array(i) for i in m.graph.initializer}
    (node,) = (n for n in m.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == name)
    scale, zero = constants[node.input[1]], constants[node.input[2]]
    codes, limits = np.rint(x / scale) + int(zero), np.iinfo(zero.dtype)
    return int(((codes < limits.min) | (codes > limits.max)).sum())


def seeded(make, sizes):
    return np.random.default_rng(zlib.crc32(f"{make.__name__}{sizes}".encode()))


@pytest.mark.thinned(3)
@pytest.mark.parametrize("codes", TARGETS)
@pytest.mark.parametrize("preset", ["minmax-w8a8", "percentile-w8a8"])
@pytest.mark.parametrize("make, sizes", CASES, ids=[f"{make.__name__}-{'x'.join(map(str, sizes))}" for make, sizes in CASES])
def test_a_quantized_layer_is_the_same_bytes_in_onnx_runtime(make, sizes, preset, codes, tmp_path):
    rng = seeded(make, sizes)
    m = make(rng, *sizes)
    artifact = quantized(m, tmp_path, rng, preset, TARGETS[codes])
    arrays = arrays_for(m, rng, 40)
    assert all(saturated(artifact, name, x) for name, x in arrays.items())
    ours, theirs = run_ours(artifact, arrays, tmp_path)["y"], run_theirs(artifact, arrays)["y"]
    assert np.array_equal(ours, theirs), difference(ours, theirs)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("codes", TARGETS)
@pytest.mark.parametrize("preset", ["repquant-w8a8", "repquant-w6a6", "repquant-w4a8", "repquant-w4a4"])
@pytest.mark.parametrize("make, sizes", CASES, ids=[f"{make.__name__}-{'x'.join(map(str, sizes))}" for make, sizes in CASES])
def test_a_rebuilt_layer_is_the_same_bytes_in_onnx_runtime(make, sizes, preset, codes, tmp_path):
    """Weights with zero points, INT4 storage, narrow activations, factors of output channels."""
    rng = seeded(make, sizes)
    m = make(rng, *sizes)
    artifact = quantized(m, tmp_path, rng, preset, TARGETS[codes])
    onnx.checker.check_model(str(artifact), full_check=True)
    int4 = [i.name for i in onnx.load(artifact).graph.initializer if i.data_type == TensorProto.INT4]
    assert bool(int4) == (preset.startswith("repquant-w4") and codes == "uint8" and make is not product)
    arrays = arrays_for(m, rng, 40)
    ours, theirs = run_ours(artifact, arrays, tmp_path)["y"], run_theirs(artifact, arrays)["y"]
    assert np.array_equal(ours, theirs), difference(ours, theirs)


@pytest.mark.parametrize("codes", TARGETS)
@pytest.mark.parametrize("bits", [6, 3])
@pytest.mark.parametrize("make, sizes", [c for c in CASES if c[0] is conv], ids=[f"conv-{'x'.join(map(str, s))}" for m, s in CASES if m is conv])
def test_few_bits_clip_what_a_convolution_gives(make, sizes, bits, codes, tmp_path):
    rng = seeded(make, sizes)
    m = make(rng, *sizes)
    artifact = quantized(m, tmp_path, rng, {"preset": "percentile-w8a8", "activations": {"bits": bits}}, TARGETS[codes])
    onnx.checker.check_model(str(artifact), full_check=True)
    arrays = arrays_for(m, rng, 40)
    ours, theirs = run_ours(artifact, arrays, tmp_path)["y"], run_theirs(artifact, arrays)["y"]
    assert np.array_equal(ours, theirs), difference(ours, theirs)
    assert all(len(np.unique(theirs[:, c])) <= 2**bits for c in range(theirs.shape[1]))


TOKENS = [(make, sizes) for make, sizes in CASES if make not in (product, conv)]


@pytest.mark.parametrize("codes", TARGETS)
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("make, sizes", TOKENS, ids=[f"{make.__name__}-{'x'.join(map(str, sizes))}" for make, sizes in TOKENS])
def test_a_layer_with_a_range_for_each_token_is_the_same_bytes_in_onnx_runtime(make, sizes, bits, codes, tmp_path):
    """No value saturates however large it is, and a row of zeros gives the bias."""
    rng = seeded(make, sizes)
    m = make(rng, *sizes)
    artifact = quantized(m, tmp_path, rng, {"preset": "zeroquant-w8a8", "weights": {"bits": bits}}, TARGETS[codes])
    onnx.checker.check_model(str(artifact), full_check=True)
    arrays = arrays_for(m, rng, 40)
    arrays["x"][1] *= 1e6
    arrays["x"][2] = 0
    ours, theirs = run_ours(artifact, arrays, tmp_path)["y"], run_theirs(artifact, arrays)["y"]
    assert np.array_equal(ours, theirs), difference(ours, theirs)
    plain = run_theirs(tmp_path / "model.onnx", arrays)["y"]
    assert np.abs(theirs[2] - plain[2]).max() == 0
    if bits == 8:
        assert np.abs(theirs[1] - plain[1]).max() <= 0.5 * np.abs(plain[1]).max()


def weights(granularity, bits=8, preset="minmax-w8a8", symmetric=True, **more):
    return {"preset": preset, "weights": {"granularity": granularity, "bits": bits, "symmetric": symmetric, "group_size": 32}, **more}


OF_TENSOR = {"activations": {"mode": "dynamic", "granularity": "per_tensor"}}
SHARED = {
    "groups": weights("per_group"), "groups-4-bit": weights("per_group", 4), "groups-asymmetric": weights("per_group", 6, symmetric=False),
    "groups-rebuilt": weights("per_group", 4, "repquant-w4a8", False), "groups-of-tokens": weights("per_group", 4, "zeroquant-w8a8"),
    "two-levels": weights("two_level", 4), "two-levels-asymmetric": weights("two_level", 4, symmetric=False),
    "two-levels-rebuilt": weights("two_level", 4, "repquant-w4a8", False), "two-levels-6-bit": weights("two_level", 6),
    "rows": weights("per_rows", 4), "rows-asymmetric": weights("per_rows", symmetric=False), "rows-rebuilt": weights("per_rows", 4, "repquant-w4a8", False),
    "smoothed-groups": "smoothquant-group-w8a8",
    "smoothed-rebuilt": {"preset": "smoothquant-w8a8", "weights": {"bits": 4, "rounding": "gptq"}},
    "smoothed-tokens-rebuilt": {"preset": "smoothquant-w8a8", "weights": {"bits": 4, "rounding": "gptq"}, "activations": {"mode": "dynamic"}},
    "two-levels-plain-rebuilt": {"preset": "percentile-w8a8", "weights": {"bits": 4, "granularity": "two_level", "group_size": 32, "rounding": "gptq"}},
    "tensor-at-run-time": {"preset": "smoothquant-w8a8", **OF_TENSOR}, "tensor-at-run-time-4-bit": weights("two_level", 4, "zeroquant-w8a8", False, **OF_TENSOR),
    "groups-at-run-time": weights("per_group", 8, "smoothquant-w8a8", False, **OF_TENSOR),
}
DIVIDED = [(linear, (5, 64, 48)), (linear, (5, 192, 48)), (linear, (3, 515, 16)), (linear, (2, 3072, 64)), (matrix, (128, 31)), (matrix, (1600, 9)),
           (gemm, (96, 10)), (gemm, (515, 21))]


@pytest.mark.parametrize("recipe", SHARED)
@pytest.mark.parametrize("make, sizes", DIVIDED, ids=[f"{make.__name__}-{'x'.join(map(str, sizes))}" for make, sizes in DIVIDED])
def test_a_layer_is_the_same_bytes_whatever_shares_a_scale(make, sizes, recipe, tmp_path):
    rng = seeded(make, sizes)
    artifact = quantized(make(rng, *sizes), tmp_path, rng, SHARED[recipe])
    onnx.checker.check_model(str(artifact), full_check=True)
    ops = [n.op_type for n in onnx.load(artifact).graph.node]
    k = sizes[-2]
    groups = 32 if recipe != "smoothed-groups" else 1 if k <= 128 else next(g for g in (128, 64, 32, 16, 1) if k % g == 0)
    split = "groups" in recipe and groups > 1 and k % groups == 0 and k > groups
    assert ops.count("Split") == split
    assert (ops.count("MatMul") + ops.count("Gemm") + ops.count("MatMulInteger")) == (k // groups if split else 1), ops
    assert ops.count("DynamicQuantizeLinear") == ("run-time" in recipe)
    arrays = arrays_for(make(rng, *sizes), rng, 40)
    ours, theirs = run_ours(artifact, arrays, tmp_path, batch=16)["y"], run_theirs(artifact, arrays)["y"]
    assert np.array_equal(ours, theirs), difference(ours, theirs)


COMPENSATED = {"minmax": weights("per_channel", 4), "groups": weights("per_group", 4, "smoothquant-w8a8"), "rebuilt": "repquant-w4a8",
               "tokens": {"preset": "zeroquant-w8a8", "weights": {"bits": 3}}, "tensor": {"preset": "smoothquant-w8a8", "weights": {"bits": 3}, **OF_TENSOR}}
COMPENSATED["minmax"]["weights"].pop("group_size")


@pytest.mark.parametrize("recipe", COMPENSATED)
@pytest.mark.parametrize("make, sizes", DIVIDED[:3] + DIVIDED[4:7:2], ids=[f"{make.__name__}-{'x'.join(map(str, s))}" for make, s in DIVIDED[:3] + DIVIDED[4:7:2]])
def test_thin_matrices_give_back_some_of_what_rounding_took(make, sizes, recipe, tmp_path):
    """Two float products: the last bits are the processor's."""
    rng = seeded(make, sizes)
    m, base = make(rng, *sizes), COMPENSATED[recipe]
    base = base if isinstance(base, dict) else {"preset": base}
    arrays = arrays_for(m, rng, 4)
    plain = run_theirs(quantized(m, tmp_path, np.random.default_rng(3), base), arrays)["y"]
    artifact = quantized(m, tmp_path, np.random.default_rng(3), {**base, "compensation": {"rank": 8}})
    onnx.checker.check_model(str(artifact), full_check=True)
    ours, theirs = run_ours(artifact, arrays, tmp_path, batch=16)["y"], run_theirs(artifact, arrays)["y"]
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()
    (want,) = session(tmp_path / "model.onnx").run(None, arrays)
    assert np.sum((theirs - want) ** 2) < 0.9 * np.sum((plain - want) ** 2)


FUSED = [(linear, (5, 64, 48), "MatMulIntegerToFloat"), (matrix, (65, 31), "QGemm"), (gemm, (64, 10), "QGemm"),
         (product, (3, 17, 64, 17), "MatMulIntegerToFloat"), (conv, (3, 32, 16, 24), "QLinearConv")]


@pytest.mark.parametrize("codes", TARGETS)
@pytest.mark.parametrize("preset", ["minmax-w8a8", "repquant-w8a8", "repquant-w4a4"])
@pytest.mark.parametrize("make, sizes, kernel", FUSED, ids=[make.__name__ for make, _, _ in FUSED])
def test_onnx_runtime_computes_it_on_integers(make, sizes, kernel, preset, codes, tmp_path):
    rng = seeded(make, sizes)
    artifact = quantized(make(rng, *sizes), tmp_path, rng, preset, TARGETS[codes])
    session(artifact, tmp_path / "optimized.onnx")
    ops = [n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kernel in ops and not {"MatMul", "Gemm", "Conv"} & set(ops), ops


def convs(rng, c, size, between, m):
    """A convolution right after another: what the second quantizes is what the first's codes stand for."""
    w = {"v": weight(rng, between, c, 1, 1), "w": weight(rng, m, between, 3, 3)}
    return model([helper.make_node("Conv", ["x", "v"], ["h"], "in"), helper.make_node("Conv", ["h", "w"], ["y"], "out")], {"x": [c, size, size]}, w)


@pytest.mark.parametrize("codes", TARGETS)
@pytest.mark.parametrize("preset", ["minmax-w8a8", "percentile-w8a8", "smoothquant-w8a8", "zeroquant-w8a8"])
def test_a_convolution_after_another_is_the_same_bytes_in_onnx_runtime(preset, codes, tmp_path):
    rng = seeded(convs, (3, 8, 8, 4))
    m = convs(rng, 3, 8, 8, 4)
    artifact = quantized(m, tmp_path, rng, preset, TARGETS[codes])
    arrays = arrays_for(m, rng, 40)
    ours, theirs = run_ours(artifact, arrays, tmp_path)["y"], run_theirs(artifact, arrays)["y"]
    assert np.array_equal(ours, theirs), difference(ours, theirs)


def halves(op, w, axis):
    """A layer on codes whose DequantizeLinears give float16: its output, too, has two bytes an element."""
    node = helper.make_node
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["xd"], output_dtype=TensorProto.FLOAT16),
             node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=axis, output_dtype=TensorProto.FLOAT16), node(op, ["xd", "wd"], ["h"])]
    end = [node("QuantizeLinear", ["h", "s", "z"], ["hq"]), node("DequantizeLinear", ["hq", "s", "z"], ["y"])] if op == "Conv" else \
        [node("Cast", ["h"], ["y"], to=TensorProto.FLOAT)]
    n = w.shape[axis]
    constants = {"s": np.float32(0.125), "z": np.uint8(128), "w": w, "ws": np.full(n, 0.0625, np.float32), "wz": np.zeros(n, np.int8)}
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", w.shape[0]] if op == "MatMul" else ["b", w.shape[1], 16, 16])
    graph = helper.make_graph(nodes + end, "halves", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
                              [numpy_helper.from_array(v, k) for k, v in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)


@pytest.mark.parametrize("op, shape, axis", [("MatMul", (8, 512), 1), ("Conv", (64, 3, 1, 1), 0)])
def test_a_layer_that_gives_halves_is_no_row_of_floats(op, shape, axis, tmp_path):
    """All numbers are small multiples of a power of two, so that float16 holds them and their sums."""
    rng = np.random.default_rng(2)
    m = halves(op, rng.integers(-2, 3, shape).astype(np.int8), axis)
    onnx.save(m, tmp_path / "model.onnx")
    x = (rng.integers(-4, 5, [256, 8] if op == "MatMul" else [8, 3, 16, 16]) * 0.125).astype(np.float32)
    w = numpy_helper.to_array(next(i for i in m.graph.initializer if i.name == "w")) * np.float32(0.0625)
    want = x @ w if op == "MatMul" else np.rint(np.einsum("bchw,oc->bohw", x, w[:, :, 0, 0]) / 0.125) * 0.125
    assert np.array_equal(run_ours(tmp_path / "model.onnx", {"x": x}, tmp_path)["y"], want)


@pytest.mark.parametrize("calibrated", [0.0, -2.5, 1e-30])
def test_a_constant_input_has_a_scale_that_both_can_divide_by(calibrated, tmp_path):
    rng = np.random.default_rng(1)
    m = linear(rng, 3, 16, 8)
    onnx.save(m, tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", x=np.full((SAMPLES, 3, 16), calibrated, np.float32))
    artifact = quantize(tmp_path / "model.onnx", tmp_path / "calib.npz", tmp_path) / "model.onnx"
    arrays = arrays_for(m, rng, 4)
    ours, theirs = run_ours(artifact, arrays, tmp_path)["y"], run_theirs(artifact, arrays)["y"]
    assert np.isfinite(ours).all() and np.array_equal(ours, theirs), difference(ours, theirs)


def attention(rng, heads, t, d, masked):
    """softmax(q.k) p.v as exporters write it, with a causal mask where asked."""
    q, k, v = ("q", [heads, t, d]), ("k", [heads, d, t]), ("v", [heads, t, d])
    mask = np.triu(np.full((t, t), np.finfo(np.float32).min, np.float32), 1) if masked else np.zeros((t, t), np.float32)
    nodes = [helper.make_node("MatMul", ["q", "k"], ["s"], "qk"), helper.make_node("Add", ["s", "mask"], ["m"]),
             helper.make_node("Softmax", ["m"], ["p"], axis=-1), helper.make_node("MatMul", ["p", "v"], ["y"], "pv")]
    return model(nodes, dict((q, k, v)), {"mask": mask})


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("preset", ["repquant-w6a6", "repquant-w4a4", "repq-vit-w4a4", {"preset": "repq-vit-w4a4", "codes": "published"}],
                         ids=["repquant-w6a6", "repquant-w4a4", "repq-vit-w4a4", "published"])
@pytest.mark.parametrize("sizes", [(2, 5, 4), (3, 17, 16), (1, 64, 8)])
def test_attention_on_levels_is_what_onnx_runtime_computes(sizes, preset, masked, tmp_path):
    rng = seeded(attention, (*sizes, str(preset), masked))
    m = attention(rng, *sizes, masked)
    artifact = quantized(m, tmp_path, rng, preset)
    ops = [n.op_type for n in onnx.load(artifact).graph.node]
    assert "Softmax" not in ops and ops.count("LogSoftmax") == ops.count("ThresholdedRelu") == 1
    arrays = arrays_for(m, rng, 4)
    ours, theirs = run_ours(artifact, arrays, tmp_path)["y"], run_theirs(artifact, arrays)["y"]
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()
    if masked:                  # a key that is masked has weight 0, whatever it holds
        later = {**arrays, "v": arrays["v"].copy()}
        later["v"][:, :, 2:] += 1
        assert np.array_equal(run_theirs(artifact, later)["y"][:, :, :2], theirs[:, :, :2])
