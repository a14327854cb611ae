"""Inputs that never vary: what they add to an output must come from somewhere, bias_correction or not."""
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import quantize, run_theirs

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
