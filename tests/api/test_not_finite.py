"""Outputs that are infinite or no number, which a logarithm of logits gives: the artifact is compared where there are numbers, and the reader is warned."""
import json

import numpy as np
import onnx
from onnx import helper
from support import DIGITS, OF_THE_MACHINE, repquant, run_theirs


def with_logarithm(path):
    """The example, whose last word is the logarithm of its logits."""
    model = onnx.load(str(DIGITS / "model.onnx"))
    logits = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["logits before" if name == logits else name for name in node.output]
    model.graph.node.append(helper.make_node("Log", ["logits before"], [logits], name="log"))
    onnx.save(model, path)
    return path


def test_an_output_with_values_that_are_none_is_compared_where_there_are_numbers(tmp_path):
    model, calib = with_logarithm(tmp_path / "log.onnx"), DIGITS / "calib.npz"
    told = repquant("quantize", model, "--calibration", calib, "--recipe", "percentile-w8a8", "--output", tmp_path / "out", "--progress", "json")
    warned = [w for w in map(json.loads, told.splitlines()) if w["event"] == "warning" and w["code"] != OF_THE_MACHINE]
    assert [w["code"] for w in warned] == ["numeric.not_finite"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["summary"]["parity_db"] > 60
    pictures = {"pixel_values": np.load(calib)["pixel_values"]}
    want, got = (np.isfinite(next(iter(run_theirs(m, pictures).values()))) for m in (model, tmp_path / "out" / "model.onnx"))
    assert 0 < want.sum() < want.size and (want == got).mean() > 0.95
