"""`repquant recipes --schema` describes what the parser takes: every preset, and not what it refuses."""
import collections
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).parents[2]
REPQUANT = Path(os.environ.get("REPQUANT", ROOT / "build" / "repquant"))
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


def complete(**fields):
    return {"name": "x", "method": "minmax", "weights": {"bits": 8}, "activations": {"bits": 8}, **fields}


PER_TENSOR = {"mode": "dynamic", "granularity": "per_tensor"}
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
    # what follows from a value that was not said
    "the size of groups where none are said": complete(weights={"bits": 8, "group_size": 64}),
    "percentile of an unsaid observer": complete(method="repquant", activations={"bits": 8, "percentile": 99}),
    "percentile of a preset's observer": {"preset": "repquant-w8a8", "activations": {"percentile": 99}},
    "distillation of untaught blocks": complete(distillation={"steps": 5}),
    "distillation of a preset's untaught blocks": changed(distillation={"steps": 5}),
    "static ranges of a preset's method": {"preset": "zeroquant-w8a8", "activations": {"mode": "static"}},
    "a range per token with a preset's static ranges": changed(activations={"granularity": "per_token"}),
    # what more than two fields say together
    "int8 of DynamicQuantizeLinear": complete(method="smoothquant", activations={"bits": 8, **PER_TENSOR, "symmetric": True}),
    "6 bits of DynamicQuantizeLinear": complete(method="smoothquant", activations={"bits": 6, **PER_TENSOR}),
    "a preset's 6 bits of DynamicQuantizeLinear": {"preset": "repquant-w6a6", "method": "smoothquant", "reconstruction": {"target": 0},
                                                   "activations": PER_TENSOR},
    "DynamicQuantizeLinear for any runtime": complete(method="zeroquant", target="portable", activations={"bits": 8, "granularity": "per_tensor"}),
    "a preset's DynamicQuantizeLinear for TensorRT": {"preset": "zeroquant-w8a8", "target": "tensorrt", "activations": {"granularity": "per_tensor"}},
    "an override of DynamicQuantizeLinear's bits": complete(method="zeroquant", activations={"bits": 8, "granularity": "per_tensor"},
                                                            overrides=[{"match": "a", "weights": {"bits": 4}}, {"match": "b", "activations": {"bits": 4}}]),
    "published codes for TensorRT": {"preset": "repq-vit-w4a4", "codes": "published", "target": "tensorrt"},
    "a float target for divided tokens": complete(method="smoothquant", activations={"bits": 8, "mode": "dynamic"}, reconstruction={"target": 0.5}),
    "a preset's float target for divided tokens": {"preset": "repquant-w8a8", "method": "smoothquant", "activations": {"mode": "dynamic"}},
}


@pytest.mark.parametrize("label", REFUSED)
def test_what_the_parser_refuses_is_not_valid(schema, label):
    assert not schema.is_valid(REFUSED[label])


TAKEN = {
    "the size of a preset's groups": {"preset": "smoothquant-group-w8a8", "weights": {"group_size": 32}},
    "percentile of a preset's observer": {"preset": "percentile-w8a8", "activations": {"percentile": 99}},
    "percentile of a method's observer": complete(method="percentile", activations={"bits": 8, "percentile": 99}),
    "distillation of a preset's blocks": {"preset": "zeroquant-lkd-w4a8", "distillation": {"steps": 5}},
    "a float target, all but 0, for divided tokens": complete(method="smoothquant", activations={"bits": 8, "mode": "dynamic"},
                                                              reconstruction={"target": 1e-7}),
    "the tensor's range at run time for OpenVINO": complete(method="smoothquant", activations={"bits": 8, **PER_TENSOR}, target="openvino"),
    "DynamicQuantizeLinear's own bits": complete(method="zeroquant", activations={"bits": 8, "granularity": "per_tensor"},
                                                 overrides=[{"match": "b", "activations": {"bits": 8}}]),
    "a whole number with a point": complete(weights={"bits": 8.0}, overrides=[{"match": "a", "weights": {"bits": 4.0}}]),
    "a pattern of 200 bytes": changed(exclude=["\u00e9" * 100]),
}


@pytest.fixture
def takes(tmp_path):
    """Whether the program takes a recipe: one that it takes fails only at the model, which is not there."""
    def ask(recipe):
        (tmp_path / "recipe.json").write_text(json.dumps(recipe))
        ended = subprocess.run([REPQUANT, "quantize", tmp_path / "none.onnx", "--recipe", tmp_path / "recipe.json", "--output", tmp_path / "out"],
                               capture_output=True, text=True)
        assert ended.returncode in (1, 3) and "[" in ended.stderr, (recipe, ended)
        return "[recipe." not in ended.stderr
    return ask


def test_the_program_and_the_schema_agree_on_these(schema, takes):
    for label, recipe in REFUSED.items():
        assert not takes(recipe), label
    for label, recipe in TAKEN.items():
        assert takes(recipe), label
        assert schema.is_valid(recipe), label


def test_where_the_program_counts_bytes_the_schema_says_so(schema, takes):
    long = changed(exclude=["\u00e9" * 150])
    assert not takes(long)
    assert schema.is_valid(long)            # JSON Schema has no word for bytes
    patterns = schema.schema["anyOf"][0]["properties"]["exclude"]["items"]
    assert "bytes" in patterns["description"]


def a_value(draw, key, schema):
    if key == "exclude":
        return draw.sample(["*head*", "a?", "blocks.0*"], draw.randint(0, 2))
    if key == "overrides":
        return [{draw.choice(["match", "part"]): "attention", draw.choice(["weights", "activations"]): {"bits": draw.choice([4, 8])}}
                for _ in range(draw.randint(0, 2))]
    if "anyOf" in schema:
        return a_value(draw, key, draw.choice(schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return draw.choice(schema.get("enum") or [schema["const"]])
    if schema["type"] == "boolean":
        return draw.choice([True, False])
    if schema["type"] == "string":
        return "drawn"
    low, high = schema["minimum"], schema["maximum"]
    if key == "bits" and draw.random() < 0.8:
        return draw.choice([8, 8.0])
    return draw.choice([low, high, draw.randint(low, high), *([round(draw.uniform(low, high), 3)] if schema["type"] == "number" else [])])


# More often than the others: what rules ask for.
CAUSES = [("method",), ("target",), ("codes",), ("weights", "granularity"), ("activations", "mode"), ("activations", "granularity"),
          ("activations", "observer"), ("activations", "symmetric"), ("reconstruction", "blocks"), ("reconstruction", "target")]


def a_recipe(draw, fields, presets):
    """Values that each field takes by itself, on a preset or without; a recipe of many is hardly ever possible."""
    recipe, chosen = {}, draw.sample(list(fields), draw.randint(0, 2)) + draw.sample(CAUSES, draw.randint(0, 4))
    if draw.random() < 0.5:
        recipe["preset"] = draw.choice(presets)
    else:
        chosen += [("name",), ("method",), ("weights", "bits"), ("activations", "bits")]
    for path in chosen:
        section = recipe if len(path) == 1 else recipe.setdefault(path[0], {})
        section[path[-1]] = a_value(draw, path[-1], fields[path])
    return recipe


def test_the_program_and_the_schema_agree_on_drawn_recipes(schema, takes):
    draw, fields, counts = random.Random(5), {}, collections.Counter()
    for key, value in schema.schema["anyOf"][0]["properties"].items():
        fields |= {(key, inner): one for inner, one in value["properties"].items()} if "properties" in value else {(key,): value}
    presets = schema.schema["anyOf"][2]["enum"]
    for _ in range(500):
        recipe = a_recipe(draw, fields, presets)
        taken = takes(recipe)
        assert schema.is_valid(recipe) == taken, recipe
        counts["preset" in recipe, taken] += 1
    assert len(counts) == 4 and min(counts.values()) > 50, counts


def test_the_page_lists_the_fields_as_the_program_has_them():
    subprocess.run([sys.executable, ROOT / "scripts" / "fields_md.py", "--check"], check=True, env={**os.environ, "REPQUANT": str(REPQUANT)})


# What the columns of the page's table of targets are about.
DEMANDS = {
    "uint8 activations": complete(activations={"bits": 8, "symmetric": False}),
    "weights with zero points": complete(weights={"bits": 8, "symmetric": False}),
    "softmax in powers": complete(method="repquant", attention={"softmax": "log2"}),
    "the tensor's range at run time": complete(method="zeroquant", activations={"bits": 8, "granularity": "per_tensor"}),
    "published codes": complete(method="repq-vit", codes="published"),
}


def test_the_page_says_of_each_target_what_it_takes(schema, takes):
    lines = (ROOT / "docs" / "methods.md").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("| target | "))
    columns = [cell.strip() for cell in lines[first].split("|")[2:-2]]
    assert columns == list(DEMANDS)
    targets = schema.schema["anyOf"][0]["properties"]["target"]["enum"]
    for target, line in zip(targets, lines[first + 2:], strict=False):
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert cells[0] == f"`{target}`"
        assert cells[1:-1] == ["yes" if takes({**DEMANDS[what], "target": target}) else "no" for what in columns], line
