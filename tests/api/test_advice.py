"""What makes one doubt a job before anything is computed: told by a dry run, by a job's events and by the command alike."""
import json

import numpy as np
import pytest
from conftest import REPQUANT
from support import DIGITS, OF_THE_MACHINE, repquant

ASIDE = [(OF_THE_MACHINE, "cpu")]


def told_by_command(tmp_path, recipe, calib=DIGITS / "calib.npz"):
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    told = repquant("quantize", DIGITS / "model.onnx", "--recipe", tmp_path / "recipe.json", "--calibration", calib, "--output", tmp_path / "out", "--progress", "json")
    found = [(w["code"], w["where"]) for w in map(json.loads, told.splitlines()) if w["event"] == "warning"]
    return [w for w in found if w not in ASIDE]


@pytest.fixture
def real(make_daemon):
    return make_daemon(REPQUANT)


def told_by_dry_run(d, recipe, calib=DIGITS / "calib.npz"):
    ids = {}
    for kind, path in (("models", DIGITS / "model.onnx"), ("datasets", calib)):
        ids[kind] = d("PUT", f"/v1/{kind}", params={"name": path.name}, data=path.read_bytes()).json()["id"]
    body = {"type": "quantize", "model_id": ids["models"], "dataset_id": ids["datasets"], "recipe": recipe}
    return d("POST", "/v1/jobs?dry_run=true", json=body).json()["problems"]


def test_a_pattern_that_no_layer_matches_is_told(real, tmp_path):
    recipe = {"preset": "minmax-w8a8", "exclude": ["head", "blcoks.*"], "overrides": [{"match": "blocks.0.*", "weights": {"bits": 6}}, {"match": "none", "weights": {"bits": 4}}]}
    assert told_by_command(tmp_path, recipe) == [("recipe.no_match", "blcoks.*"), ("recipe.no_match", "none")]
    problems = told_by_dry_run(real, recipe)
    assert [(p["level"], p["code"], p["pointer"], p["where"]) for p in problems] == [
        ("warning", "recipe.no_match", "/recipe/exclude/1", "blcoks.*"), ("warning", "recipe.no_match", "/recipe/overrides/1", "none")]


@pytest.mark.parametrize("there,taken,few", [(32, 0, False), (31, 0, True), (128, 32, False), (128, 8, True)])
def test_few_samples_are_told_by_their_own_name(real, tmp_path, there, taken, few):
    np.savez(tmp_path / "calib.npz", pixel_values=np.load(DIGITS / "calib.npz")["pixel_values"][:there])
    recipe = {"preset": "minmax-w8a8", "calibration": {"samples": taken}}
    assert [code for code, _ in told_by_command(tmp_path, recipe, tmp_path / "calib.npz")] == ["dataset.too_few_samples"] * few
    assert [(p["level"], p["code"], p["pointer"]) for p in told_by_dry_run(real, recipe, tmp_path / "calib.npz")] == [
        ("warning", "dataset.too_few_samples", "/dataset_id")] * few


def test_an_evaluation_with_nothing_to_compare_is_refused(tmp_path):
    ended = repquant("evaluate", DIGITS / "model.onnx", "--data", DIGITS / "calib.npz", status=None)
    assert ended.returncode == 2 and "--reference" in ended.stderr and "labels" in ended.stderr


def test_inspect_tells_parameters_and_what_each_recipe_quantizes():
    text, told = repquant("inspect", DIGITS / "model.onnx"), json.loads(repquant("inspect", DIGITS / "model.onnx", "--json"))
    assert f"parameters {told['parameters']}\n" in text
    for row in told["methods"]:
        assert f"{row['recipe']:<36} {row['quantizes']}, {row['stays_float']} stay in float\n" in text


def test_an_output_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    ended = repquant("quantize", DIGITS / "model.onnx", "--recipe", "minmax-w8a8", "--calibration", DIGITS / "calib.npz", "--output", tmp_path / "file", status=None)
    assert ended.returncode == 1 and f"{tmp_path}/file: create the folder: Not a directory" in ended.stderr
