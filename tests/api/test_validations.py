"""POST /v1/datasets/{id}/validations: what a job would object to, all of it, before there is a job."""
import io
import json
import zipfile

import numpy as np
import pytest
from conftest import REPQUANT
from onnx import TensorProto, helper
from PIL import Image


@pytest.fixture
def real(make_daemon):
    return make_daemon(program=REPQUANT)


def test_a_validation_lists_every_objection_with_its_pointer_and_remedy(real, tmp_path):
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, 8, 8]), helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", 4])]
    graph = helper.make_graph([helper.make_node("ReduceMean", ["pixels"], ["m"], keepdims=1), helper.make_node("Cast", ["ids"], ["f"], to=1),
                               helper.make_node("Reshape", ["m", "one"], ["s"]), helper.make_node("Mul", ["f", "s"], ["y"])], "g", inputs,
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
                              [helper.make_tensor("one", TensorProto.INT64, [1], [1])])
    model = real("PUT", "/v1/models?name=m", data=helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    assert model.status_code == 201, model.text

    def validated(**arrays):
        np.savez(tmp_path / "d.npz", **arrays)
        made = real("PUT", "/v1/datasets?name=d", data=(tmp_path / "d.npz").read_bytes())
        assert made.status_code == 201, made.text
        return real("POST", f"/v1/datasets/{made.json()['id']}/validations", json={"model_id": model.json()["id"]}).json()

    report = validated(pixels=np.zeros((5, 8, 8, 3), np.float32), ids=np.zeros((5, 4), np.float32))
    assert not report["ok"]
    assert [(c["code"], c["where"]) for c in report["checks"]] == [("dataset.shape_mismatch", "pixels"), ("dataset.dtype", "ids")]
    shape = report["checks"][0]
    assert shape["pointer"] == "/inventory/arrays/0" and "NHWC" in shape["remedy"]
    bad = np.ones((5, 3, 8, 8), np.float32)
    bad[2, 0, 0, 0] = np.nan
    report = validated(pixels=bad, ids=np.zeros((4, 4), np.int64))
    assert [(c["level"], c["code"]) for c in report["checks"]] == [("error", "dataset.values"), ("ok", "dataset.input")]
    good = np.random.default_rng(0).uniform(0, 255, (40, 3, 8, 8)).astype(np.float32)
    report = validated(pixels=good, ids=np.zeros((40, 4), np.int64), labels=np.full(40, 4))
    assert ("error", "dataset.label_range") in [(c["level"], c["code"]) for c in report["checks"]]
    assert ("warning", "dataset.raw_pixels") in [(c["level"], c["code"]) for c in report["checks"]]
    report = validated(pixels=good / 255, ids=np.zeros((40, 4), np.int64), labels=np.full(40, 3))
    assert report["ok"] and {c["level"] for c in report["checks"]} == {"ok"}


def test_pictures_are_held_against_a_model(real, tmp_path):
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as z:
        for i in range(3):
            out = io.BytesIO()
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(out, "PNG")
            z.writestr(f"{i}.png", out.getvalue())
        z.writestr("preprocess.json", json.dumps({"mean": [0.5] * 3, "std": [0.5] * 3}))
    data = real("PUT", "/v1/datasets?name=pictures", data=(tmp_path / "d.zip").read_bytes()).json()

    def against(height):
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, height, 8])],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, height, 8])])
        made = real("PUT", "/v1/models?name=m", data=helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
        assert made.status_code == 201, made.text
        return real("POST", f"/v1/datasets/{data['id']}/validations", json={"model_id": made.json()["id"]}).json()

    report = against(8)         # the array is called pixel_values, the model's only input x
    assert report["ok"] and report["samples"] == 3
    assert {(c["level"], c["code"]) for c in report["checks"]} == {("ok", "dataset.input"), ("warning", "dataset.too_few_samples")}
    report = against(9)
    assert not report["ok"] and report["checks"][0]["code"] == "dataset.shape_mismatch" and "resize" in report["checks"][0]["remedy"]
