"""Blocks taught as a whole, from the command to ONNX Runtime: what is gained, on which samples, and what is told."""
import json

import numpy as np
import pytest
from support import DIGITS, MODELS, STORIES, load, needs, perplexity, quantize, repquant, run_ours, run_theirs
from test_zoo import ZOO, arrays_for, decibels

LKD = "zeroquant-lkd-w4a8"
NEAREST = {"preset": LKD, "reconstruction": {"blocks": False}}


def blocks_of(out):
    return json.loads((out / "report.json").read_text())["blocks"]


def test_teaching_gains_what_rounding_lost(tmp_path):
    data = load(DIGITS / "eval.npz")
    arrays = {"pixel_values": data["pixel_values"]}
    want = run_theirs(DIGITS / "model.onnx", arrays)["logits"]
    gained = {}
    for name, recipe in {"nearest": NEAREST, "taught": LKD}.items():
        (tmp_path / name).mkdir()
        out = quantize(DIGITS / "model.onnx", DIGITS / "calib.npz", tmp_path / name, recipe)
        gained[name] = decibels(want, run_theirs(out / "model.onnx", arrays)["logits"])
    assert gained["taught"] > gained["nearest"] + 2, gained
    blocks = blocks_of(out)
    assert [b["name"] for b in blocks] == [f"blocks.{i}" for i in range(4)]
    for b in blocks:
        assert b["kept"] and b["reason"] == "" and 0 < b["error_after"] < b["error_before"] and b["gflop"] > 0 and b["seconds"] > 0
    rows = json.loads((out / "report.json").read_text())["layers"]
    assert {r["name"]: r["weight_bits"] for r in rows if r["block"] == "blocks.0" and r["weight_bits"]} == {
        "blocks.0.attn.qkv": 8, "blocks.0.attn.proj": 8, "blocks.0.fc1": 4, "blocks.0.fc2": 4}


@needs(MODELS / "stories260k.onnx", STORIES)
@pytest.mark.parametrize("change", [{}, {"calibration": {"random_tokens": True}}], ids=["given", "random"])
def test_a_language_model_is_taught_on_given_tokens_or_random_ones(tmp_path, change):
    ids = {"input_ids": load(STORIES / "tinystories_eval.npz")["input_ids"][:100]}
    model, calib = MODELS / "stories260k.onnx", STORIES / "tinystories_calib.npz"
    found = {}
    for name, recipe in {"nearest": NEAREST, "taught": {"preset": LKD, "distillation": {"steps": 20, "batch": 8}}}.items():
        (tmp_path / name).mkdir()
        out = quantize(model, calib, tmp_path / name, {**recipe, **change})
        found[name] = perplexity(run_theirs(out / "model.onnx", ids)["logits"], ids["input_ids"])
    assert found["taught"] < found["nearest"] - 0.03, found


def test_random_tokens_replace_the_ids_alone(tmp_path):
    model = ZOO / "bert-dyn20.onnx"
    arrays = arrays_for("bert-dyn20", 32, 12, 2)
    np.savez(tmp_path / "calib.npz", **arrays)
    other = {**arrays, "input_ids": np.ones_like(arrays["input_ids"])}
    np.savez(tmp_path / "ones.npz", **other)
    bytes_of = {}
    for name, calib, random in (("given", "calib", False), ("drawn", "calib", True), ("ones", "ones", True)):
        (tmp_path / name).mkdir()
        out = quantize(model, tmp_path / f"{calib}.npz", tmp_path / name, {"preset": "minmax-w8a8", "calibration": {"random_tokens": random}})
        bytes_of[name] = (out / "model.onnx").read_bytes()
    assert bytes_of["drawn"] == bytes_of["ones"] != bytes_of["given"]


def test_random_tokens_need_a_table_to_look_them_up_in(tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps({"preset": "minmax-w8a8", "calibration": {"random_tokens": True}}))
    ended = repquant("quantize", DIGITS / "model.onnx", "--calibration", DIGITS / "calib.npz", "--recipe", tmp_path / "recipe.json",
                     "--output", tmp_path / "out", status=None)
    assert ended.returncode == 1 and "no input of this model is looked up" in ended.stderr


# Where exporters name layers, a block is one of them (and DeiT's heads for class and distillation are one more); else a region.
@pytest.mark.parametrize("name, count", [("bert-dyn20", 8), ("llama-ts17", 2), ("gpt2-dyn18", 2), ("deit-ts14", 3), ("roberta-ts13", 2)])
@pytest.mark.parametrize("preset", ["zeroquant-w8a8", "smoothquant-w8a8", "repquant-w4a8"])
def test_blocks_of_other_architectures_are_taught(tmp_path, name, count, preset):
    np.savez(tmp_path / "calib.npz", **arrays_for(name, 64, 12, 2))
    recipe = {"preset": preset, "weights": {"bits": 4, "rounding": "nearest"}, "reconstruction": {"blocks": True},
              "distillation": {"input": "both", "steps": 12, "batch": 16, "rate": 0.02}}
    if preset == "smoothquant-w8a8":
        del recipe["weights"]["rounding"]
    out = quantize(ZOO / f"{name}.onnx", tmp_path / "calib.npz", tmp_path, recipe)
    blocks = blocks_of(out)
    assert len(blocks) == count and all(b["reason"] == "" for b in blocks), blocks
    assert any(b["kept"] for b in blocks), blocks
    arrays = arrays_for(name, 4, 9, 3)
    ours = next(iter(run_ours(out / "model.onnx", arrays, tmp_path).values()))
    theirs = next(iter(run_theirs(out / "model.onnx", arrays).values()))
    assert decibels(theirs, ours) >= 28


# Where channels share a scale it stays; what has no derivative is told, and the artifact is what it would have been.
@pytest.mark.parametrize("weights, more, taught", [
    ({"granularity": "per_tensor"}, {}, True), ({"granularity": "per_rows", "group_size": 32}, {}, True),
    ({"granularity": "per_group", "group_size": 32}, {}, True), ({"granularity": "two_level", "group_size": 32}, {}, True),
    ({}, {"activations": {"granularity": "per_tensor"}}, False), ({}, {"compensation": {"rank": 4}}, False),
])
def test_blocks_of_every_granularity_run_alike_or_are_refused(tmp_path, weights, more, taught):
    recipe = {"preset": LKD, "weights": {"bits": 4, **weights}, "distillation": {"steps": 12, "rate": 0.02}, **more}
    out = quantize(DIGITS / "model.onnx", DIGITS / "calib.npz", tmp_path, recipe)
    arrays = {"pixel_values": load(DIGITS / "eval.npz")["pixel_values"][:48]}
    ours, theirs = run_ours(out / "model.onnx", arrays, tmp_path, batch=16)["logits"], run_theirs(out / "model.onnx", arrays)["logits"]
    assert decibels(theirs, ours) >= 30
    blocks = blocks_of(out)
    assert len(blocks) == 4
    for b in blocks:
        assert b["kept"] and b["reason"] == "" if taught else not b["kept"] and "(MatMul)" in b["reason"], b
