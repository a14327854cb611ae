"""Inputs that never vary: what they add to an output must come from somewhere, bias_correction or not."""
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import DIGITS, quantize, run_theirs

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((32, 16)).astype(np.float32)
X = RNG.standard_normal((64, 8, 32)).astype(np.float32)
X[..., 3] = 5


def decibels(want, got):
    return 10 * np.log10(np.square(want, dtype=np.float64).sum() / max(np.square(want - got, dtype=np.float64).sum(), 1e-30))


@pytest.mark.parametrize("correct", [False, True])
@pytest.mark.parametrize("rounding", ["nearest", "gptq", "adaround"])
@pytest.mark.parametrize("preset", ["smoothquant-w8a8", "repquant-w8a8", "minmax-w8a8"])
def test_rebuilt_weights_keep_what_a_constant_input_gives(preset, rounding, correct, tmp_path):
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 16])], [numpy_helper.from_array(WEIGHT, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", x=X)
    recipe = {"preset": preset, "weights": {"rounding": rounding}, "reconstruction": {"bias_correction": correct}}
    out = quantize(tmp_path / "model.onnx", tmp_path / "calib.npz", tmp_path, recipe)
    want, got = run_theirs(tmp_path / "model.onnx", {"x": X})["y"], run_theirs(out / "model.onnx", {"x": X})["y"]
    assert decibels(want, got) > 38


FLAG = {"repquant-w8a8": 30, "repquant-w6a6": 18, "minmax-w8a8": 30}      # preset: dB at least where the flag varies


@pytest.mark.parametrize("preset", FLAG)
def test_a_flag_that_was_always_set_in_calibration_may_be_unset_later(preset, tmp_path):
    """The bias could give what it added, and the artifact would not hear of the flag any more."""
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((32, n)).astype(np.float32) / 5 for n in (32, 10))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w1"], ["a"], name="l1"), helper.make_node("Relu", ["a"], ["r"]), helper.make_node("MatMul", ["r", "w2"], ["y"], name="l2")],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(first, "w1"), numpy_helper.from_array(second, "w2")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx")
    x, later = (rng.standard_normal((n, 32)).astype(np.float32) for n in (128, 256))
    x[:, 0] = 1
    later[:, 0] = rng.integers(0, 2, 256)
    np.savez(tmp_path / "calib.npz", x=x)
    out = quantize(tmp_path / "model.onnx", tmp_path / "calib.npz", tmp_path, preset)
    want, got = run_theirs(tmp_path / "model.onnx", {"x": later})["y"], run_theirs(out / "model.onnx", {"x": later})["y"]
    assert decibels(want, got) > FLAG[preset]


ONE_SAMPLE = {"repquant-w8a8": 0.97, "repquant-w4a4": 0.9}       # preset: share of right answers at least


@pytest.mark.parametrize("preset", ONE_SAMPLE)
def test_one_sample_makes_no_constant_of_a_model(preset, tmp_path):
    """Nothing varies in it, and there is hardly a range to be had; but the answers still depend on the pictures (by chance 10 % are right)."""
    np.savez(tmp_path / "calib.npz", pixel_values=np.load(DIGITS / "calib.npz")["pixel_values"][:1])
    out = quantize(DIGITS / "model.onnx", tmp_path / "calib.npz", tmp_path, preset)
    eval_set = np.load(DIGITS / "eval.npz")
    right = run_theirs(out / "model.onnx", {"pixel_values": eval_set["pixel_values"]})["logits"].argmax(1) == eval_set["labels"]
    assert right.mean() > ONE_SAMPLE[preset]
