"""One real model through the whole service: upload, quantize, download, run in ONNX Runtime."""
import json
import os
import pathlib

import numpy as np
import pytest
from conftest import REPQUANT
from support import session

MODELS = pathlib.Path(os.environ.get("MODELS_DIR", "../shared/models"))
DATA = pathlib.Path(os.environ.get("DATA_DIR", "../shared/data"))
MODEL, CALIB = MODELS / "stories260k.onnx", DATA / "tinystories" / "tinystories_calib.npz"

pytestmark = [pytest.mark.skipif(not MODEL.exists() or not CALIB.exists(), reason="stories260k.onnx or its data is absent"),
              pytest.mark.skipif(not os.path.exists(REPQUANT), reason="repquant is not built")]


def test_a_real_model_comes_back_quantized_and_runs(make_daemon):
    daemon = make_daemon(program=REPQUANT)
    model = daemon("PUT", "/v1/models/stories260k.onnx", data=MODEL.read_bytes())
    assert model.status_code == 201, model.text
    assert model.json()["inventory"]["inputs"][0]["name"] == "input_ids"
    data = daemon("PUT", "/v1/datasets?name=calib", data=CALIB.read_bytes())
    assert data.status_code == 201 and data.json()["format"] == "npz", data.text
    assert data.json()["inventory"]["arrays"][0]["name"] == "input_ids"
    recipe = {"preset": "minmax-w8a8", "calibration": {"samples": 8}}
    job = daemon("POST", "/v1/jobs", json={"type": "quantize", "model_id": model.json()["id"], "dataset_id": data.json()["id"], "recipe": recipe})
    assert job.status_code == 202, job.text
    job = daemon.ended(job.json()["id"], 120)
    assert job["state"] == "succeeded", job["problem"]

    layers = daemon("GET", job["urls"]["layers"] + "?sort=output_sqnr_db&order=asc").json()["data"]
    quality = [row["output_sqnr_db"] for row in layers if row["output_sqnr_db"] is not None]
    assert len(layers) > 10 and quality == sorted(quality)
    details = daemon("GET", f"{job['urls']['layers']}/{layers[0]['index']}/details").json()
    assert details["index"] == layers[0]["index"] and details["name"] == layers[0]["name"]
    assert json.loads(daemon("GET", job["urls"]["report"]).content)

    artifact = {a["name"]: a for a in daemon("GET", job["urls"]["artifacts"]).json()["data"]}["model.onnx"]
    quantized = daemon("GET", artifact["urls"]["content"]).content
    assert len(quantized) == artifact["bytes"] < MODEL.stat().st_size
    ids = {"input_ids": np.load(CALIB)["input_ids"][:4].astype(np.int64)}
    want, got = (session(m).run(None, ids)[0] for m in (MODEL.read_bytes(), quantized))
    assert np.mean(want.argmax(-1) == got.argmax(-1)) > 0.8


def test_a_file_that_is_no_model_is_refused_with_a_reason(make_daemon):
    daemon = make_daemon(program=REPQUANT)
    for content in (b"", b"GGUF", MODEL.read_bytes()[:1000], CALIB.read_bytes()):
        answer = daemon("PUT", "/v1/models?name=bad", data=content, headers={"Content-Length": str(len(content))})
        assert answer.status_code == 422, answer.text
        assert answer.json()["code"].startswith("model.") and str(daemon.data) not in answer.text
    answer = daemon("PUT", "/v1/datasets?name=bad", data=MODEL.read_bytes())
    assert answer.status_code == 422 and answer.json()["code"].startswith("dataset.")
    assert daemon("GET", "/v1/models").json()["data"] == daemon("GET", "/v1/datasets").json()["data"] == []
