"""Quantizing with no calibration set: where a recipe can do without, and what is said where it cannot and where nothing was measured."""
import json

import numpy as np
import pytest
from conftest import REPQUANT
from support import DIGITS, load, quantize, repquant, run_theirs
from test_zoo import ZOO, arrays_for

FREE = {"preset": "zeroquant-w8a8", "attention": {"products": False}, "convolutions": False}
MEASURED = ["output_sqnr_db", "output_mse", "cosine", "isolated_sqnr_db", "accumulated_sqnr_db", "act_min", "act_max", "channel_range_ratio_before",
            "channel_range_ratio_after", "saturation_pct"]
BERT = ZOO / "bert-dyn20.onnx"

# A recipe, and the field of it that asks for data.
NEEDY = {
    "static ranges": ("minmax-w8a8", "/activations/mode"),
    "factors": ({"preset": "smoothquant-w8a8", "activations": {"mode": "dynamic"}}, "/method"),
    "rounding": ({**FREE, "weights": {"rounding": "gptq"}}, "/weights/rounding"),
    "blocks": ({**FREE, "reconstruction": {"blocks": True}}, "/reconstruction/blocks"),
    "biases": ({**FREE, "reconstruction": {"bias_correction": True}}, "/reconstruction/bias_correction"),
    "thin matrices": ({**FREE, "compensation": {"rank": 4}}, "/compensation/rank"),
    "products": ({"preset": "zeroquant-w8a8", "convolutions": False}, "/attention/products"),
    "both": ("zeroquant-w8a8", "/attention/products"),
    "convolutions": ({**FREE, "convolutions": True}, "/convolutions"),
}
OF_THE_MODEL = ["products", "convolutions", "both"]


def without(model, recipe, folder, *more, status=0):
    folder.mkdir(exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return repquant("quantize", model, "--recipe", folder / "recipe.json", "--output", folder, "--progress", "none", *more, status=status)


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


# ---- the command ----

@pytest.mark.parametrize("change", [{}, {"activations": {"granularity": "per_tensor"}}, {"weights": {"granularity": "two_level", "bits": 4}}],
                         ids=["per token", "per tensor", "two levels"])
def test_the_artifact_has_the_same_bytes_with_data_and_without(tmp_path, change):
    recipe = {**FREE, **change}
    if "granularity" in change.get("activations", {}):
        recipe = {"name": "dynamic", "method": "zeroquant", "weights": {"bits": 8}, "activations": {"bits": 8, **change["activations"]},
                  "attention": {"products": False}, "convolutions": False}
    with_data = quantize(DIGITS / "model.onnx", DIGITS / "calib.npz", tmp_path, recipe)
    without(DIGITS / "model.onnx", recipe, tmp_path / "free")
    assert (tmp_path / "free/model.onnx").read_bytes() == (with_data / "model.onnx").read_bytes()


def test_what_was_not_measured_is_said_and_has_no_numbers(tmp_path):
    told = without(DIGITS / "model.onnx", FREE, tmp_path)
    assert "were not measured" in told
    report = report_of(tmp_path)
    assert report["not_measured"] == [*MEASURED, "evaluation"] and report["evaluation"] is None
    assert report["summary"]["samples_from"] == "none" and report["summary"]["calibration_samples"] == report["summary"]["samples"] == 0
    assert "calibration" not in json.loads((tmp_path / "manifest.json").read_text())["inputs"]
    for row in report["layers"]:
        assert all(row[name] is None for name in MEASURED), row
    assert all(r["weight_sqnr_db"] > 20 for r in report["layers"] if r["weight_bits"] == 8)      # of the weights alone
    assert all("activation" not in d for d in json.loads((tmp_path / "details.json").read_text())["layers"])


def test_evaluation_data_measure_what_no_calibration_did(tmp_path):
    without(DIGITS / "model.onnx", FREE, tmp_path / "free")
    without(DIGITS / "model.onnx", FREE, tmp_path, "--evaluation", DIGITS / "eval.npz")
    report = report_of(tmp_path)
    assert report["not_measured"] == [] and report["summary"]["samples_from"] == "evaluation"
    assert report["summary"]["calibration_samples"] == 0 and report["summary"]["samples"] == 64
    assert report["evaluation"]["agreement"]["quantized"] > 95
    assert all(r["isolated_sqnr_db"] > 15 and r["accumulated_sqnr_db"] > 10 for r in report["layers"] if r["weight_bits"] == 8)
    assert (tmp_path / "free/model.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()


@pytest.mark.parametrize("recipe, field", NEEDY.values(), ids=NEEDY)
def test_a_recipe_that_needs_data_names_its_field(tmp_path, recipe, field):
    ended = without(DIGITS / "model.onnx", recipe, tmp_path, status=None)
    assert ended.returncode == 1 and f"{field}:" in ended.stderr and "[dataset.required]" in ended.stderr and "calibration data" in ended.stderr
    assert not (tmp_path / "model.onnx").exists()


def test_layers_that_are_excluded_need_no_data(tmp_path):
    without(DIGITS / "model.onnx", {"preset": "zeroquant-w8a8", "exclude": ["*qk*", "*pv*", "*patch*"]}, tmp_path, status=None)
    names = {r["name"]: r["actual_precision"] for r in report_of(tmp_path)["layers"]} if (tmp_path / "report.json").exists() else None
    assert names and "w8a8" in names.values()


def test_a_text_model_with_masks_positions_and_kinds_runs_in_onnx_runtime(tmp_path):
    free = {k: v for k, v in FREE.items() if k != "convolutions"}     # it has none: nothing to be said of them
    without(BERT, free, tmp_path)
    outputs = run_theirs(tmp_path / "model.onnx", arrays_for("bert-dyn20", 8, 12, 1))
    assert all(np.isfinite(x).all() for x in outputs.values())


# ---- random tokens ----

def test_random_tokens_need_no_file(tmp_path):
    recipe = {"preset": "minmax-w8a8", "calibration": {"random_tokens": True, "samples": 24}}
    for folder, seed in (("one", "0"), ("same", "0"), ("other", "1")):
        without(BERT, recipe, tmp_path / folder, "--seed", seed)
    report, bytes_of = report_of(tmp_path / "one"), {f: (tmp_path / f / "model.onnx").read_bytes() for f in ("one", "same", "other")}
    assert bytes_of["one"] == bytes_of["same"] != bytes_of["other"]
    assert report["summary"]["samples_from"] == "random_tokens" and report["summary"]["calibration_samples"] == 24
    assert all(r["accumulated_sqnr_db"] is not None for r in report["layers"] if r["weight_bits"] == 8) and report["not_measured"] == []


def test_too_many_random_tokens_are_refused(tmp_path):
    ended = without(BERT, {"preset": "minmax-w8a8", "calibration": {"random_tokens": True, "samples": 1000000}}, tmp_path, status=None)
    assert ended.returncode == 1 and "/calibration/samples:" in ended.stderr


def test_pictures_cannot_be_drawn(tmp_path):
    ended = without(DIGITS / "model.onnx", {"preset": "minmax-w8a8", "calibration": {"random_tokens": True}}, tmp_path, status=None)
    assert ended.returncode == 1 and "pixel_values" in ended.stderr and "[dataset.required]" in ended.stderr


# ---- the service ----

@pytest.fixture
def service(make_daemon):
    return make_daemon(program=REPQUANT)


def model_id(service, path):
    answer = service("PUT", "/v1/models", params={"name": path.name}, data=path.read_bytes())
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def test_the_service_takes_jobs_without_data_and_refuses_those_that_need_some(service):
    model = model_id(service, DIGITS / "model.onnx")
    for name, (recipe, field) in NEEDY.items():
        body = {"type": "quantize", "model_id": model, "recipe": recipe}
        refused, dry = service("POST", "/v1/jobs", json=body), service("POST", "/v1/jobs", params={"dry_run": "true"}, json=body)
        for told in [refused.json(), dry.json()["problems"][0] if name in OF_THE_MODEL else dry.json()]:
            assert told["code"] == "dataset.required" and told["pointer"] == f"/recipe{field}", (name, told)
        assert refused.status_code == 422 and dry.status_code == (200 if name in OF_THE_MODEL else 422), name
        assert "calibration data" in refused.json()["detail"]
    body = {"type": "quantize", "model_id": model, "recipe": FREE}
    dry = service("POST", "/v1/jobs", params={"dry_run": "true"}, json=body).json()
    assert dry["problems"] == [] and dry["estimate"]["memory_bytes"] > 0
    job = service("POST", "/v1/jobs", json=body).json()
    assert job["request"]["dataset_id"] is None
    ended = service.ended(job["id"], 120)
    assert ended["state"] == "succeeded", ended
    later = service("POST", "/v1/jobs", json={**body, "not_before": "2100-01-01T00:00:00Z"}).json()
    assert service("POST", f"/v1/jobs/{later['id']}/cancel").status_code in (200, 202)
    again = service("POST", f"/v1/jobs/{later['id']}/retry")
    assert again.status_code == 202 and again.json()["request"]["dataset_id"] is None
    events = service("GET", f"/v1/jobs/{job['id']}/events?limit=1000").json()["data"]
    assert any(e["data"].get("code") == "dataset.none" for e in events)
    report = service("GET", job["urls"]["report"] + "?format=json").json()
    assert report["not_measured"] and report["summary"]["calibration_samples"] == 0


def test_a_dry_run_foresees_the_samples_there_will_be(service):
    answer = service("PUT", "/v1/datasets", params={"name": "eval"}, data=(DIGITS / "eval.npz").read_bytes())
    body = {"type": "quantize", "model_id": model_id(service, DIGITS / "model.onnx"), "recipe": FREE}
    bert = {"type": "quantize", "model_id": model_id(service, BERT), "recipe": {"preset": "minmax-w8a8", "calibration": {"random_tokens": True}}}
    drawn, many = json.loads(json.dumps(bert)), json.loads(json.dumps(bert))
    drawn["recipe"]["calibration"]["samples"], many["recipe"]["calibration"]["samples"] = 24, 100000
    for asked, samples in ((body, 1), ({**body, "eval_dataset_id": answer.json()["id"]}, 64), (bert, 64), (drawn, 24)):
        told = service("POST", "/v1/jobs", params={"dry_run": "true"}, json=asked).json()
        assert told["problems"] == [] and told["estimate"]["samples"] == samples, told
    told = service("POST", "/v1/jobs", json=many)
    assert told.status_code == 422 and told.json()["pointer"] == "/recipe/calibration/samples"
    ended = service.ended(service("POST", "/v1/jobs", json=drawn).json()["id"], 120)
    assert ended["state"] == "succeeded", ended


def test_a_pinned_data_set_that_is_not_there_is_still_refused(service):
    model = model_id(service, DIGITS / "model.onnx")
    answer = service("POST", "/v1/jobs", json={"type": "quantize", "model_id": model, "dataset_id": "ds_00000000000000000000000000", "recipe": FREE})
    assert answer.status_code == 422 and answer.json()["pointer"] == "/dataset_id" and answer.json()["code"] == "request.reference"
