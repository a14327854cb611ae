"""Convolutions whose channels were pruned or folded away: only the bias is left of them."""
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import quantize, run_theirs

BIAS = np.float32([0.2, -0.1, 0.45, 0.3, -0.4, 0.25, 0.1, 0.05])


def model(path, scale):
    weight = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32) * np.float32(0.03)
    weight[[2, 5]] *= np.float32(scale)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["v"], name="conv"), helper.make_node("Relu", ["v"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 12, 12])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(BIAS, "b")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.parametrize("scale", [0, 1e-11, 1e-6])
@pytest.mark.parametrize("recipe", ["minmax-w8a8", "repquant-w8a8", "repquant-w4a8"])
def test_a_channel_with_hardly_a_weight_keeps_its_bias(recipe, scale, tmp_path):
    x = {"x": np.random.default_rng(1).standard_normal((16, 3, 12, 12)).astype(np.float32) * np.float32(4)}
    model(tmp_path / "model.onnx", scale)
    np.savez(tmp_path / "calib.npz", **x)
    out = quantize(tmp_path / "model.onnx", tmp_path / "calib.npz", tmp_path, recipe)
    want, got = run_theirs(tmp_path / "model.onnx", x)["y"], run_theirs(out / "model.onnx", x)["y"]
    step = want.max() * 2 / 255
    assert np.abs(got[:, [2, 5]] - want[:, [2, 5]]).max() <= step
