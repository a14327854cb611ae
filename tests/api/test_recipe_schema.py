"""`repquant recipes --schema` describes what the parser takes: every preset, and not what it refuses."""
import json
import os
import subprocess
from pathlib import Path

import jsonschema
import pytest

REPQUANT = Path(os.environ.get("REPQUANT", Path(__file__).parents[2] / "build" / "repquant"))
PRESETS = ["minmax-w8a8", "percentile-w8a8"]


def recipes(*args):
    return subprocess.run([REPQUANT, "recipes", *args], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def schema():
    value = json.loads(recipes("--schema"))
    jsonschema.Draft202012Validator.check_schema(value)
    return jsonschema.Draft202012Validator(value)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_in_all_three_forms(schema, name):
    complete = json.loads(recipes(name))
    assert complete["name"] == name
    schema.validate(complete)
    schema.validate(name)
    schema.validate({"preset": name})
    schema.validate({"preset": name, "weights": {"bits": 6}, "exclude": ["*head*"], "target": "tensorrt",
                     "overrides": [{"match": "*fc1", "weights": {"bits": 4}, "activations": {"bits": 8}}]})


def changed(**fields):
    return {"preset": "minmax-w8a8", **fields}


REFUSED = {
    "a number": 8,
    "a list": [],
    "an unknown preset": "nope",
    "an unknown preset to change": {"preset": "nope"},
    "nothing": {},
    "no bits": {"name": "x", "method": "minmax", "weights": {}, "activations": {"bits": 8}},
    "an unknown field": changed(weigths={"bits": 8}),
    "an unknown field in a section": changed(weights={"bit": 8}),
    "too few bits": changed(weights={"bits": 1}),
    "too many bits": changed(activations={"bits": 9}),
    "half a bit": changed(weights={"bits": 7.5}),
    "bits as text": changed(weights={"bits": "8"}),
    "the size of groups that there are not": changed(weights={"granularity": "per_channel", "group_size": 64}),
    "groups of eight": changed(weights={"granularity": "per_group", "group_size": 8}),
    "an override of an unknown part": changed(overrides=[{"part": "mlp", "weights": {"bits": 4}}]),
    "an unknown method": changed(method="magic"),
    "an unknown target": changed(target="tflite"),
    "activations per channel": changed(activations={"granularity": "per_channel"}),
    "a share instead of percent": changed(method="percentile", activations={"percentile": 0.9999}),
    "capitals in the name": changed(name="Mine"),
    "a pattern that is no list": changed(exclude="head"),
    "an empty pattern": changed(exclude=[""]),
    "a control character": changed(exclude=["a\n"]),
    "too many patterns": changed(exclude=["a"] * 65),
    "a long pattern": changed(exclude=["a" * 201]),
    "an override of nothing": changed(overrides=[{"match": "a"}]),
    "an override of symmetric": changed(overrides=[{"match": "a", "activations": {"symmetric": True}}]),
    "an override without pattern": changed(overrides=[{"weights": {"bits": 4}}]),
    "percentile of minmax": changed(method="minmax", activations={"percentile": 99}),
    "an observer of another method": changed(method="minmax", activations={"observer": "percentile"}),
    "uint8 for TensorRT": changed(target="tensorrt", activations={"symmetric": False}),
    "uint8 for any runtime": changed(target="portable", activations={"symmetric": False}),
    "reconstruction by a plain method": {"preset": "repq-vit-w4a4", "method": "repq-vit", "reconstruction": {"ridge": 1}},
    "asymmetric weights for TensorRT": {"preset": "repquant-w8a8", "target": "tensorrt", "weights": {"symmetric": False}},
    "negative samples": changed(calibration={"samples": -1}),
}


@pytest.mark.parametrize("label", REFUSED)
def test_what_the_parser_refuses_is_not_valid(schema, label):
    assert not schema.is_valid(REFUSED[label])
