"""Every method with every width and everything that may share a scale, on the example model.

Each recipe gives an artifact that ONNX Runtime computes as `repquant run` does, or is refused with the field that stands in its way.
"""
import collections
import itertools
import json

import numpy as np
import pytest
from support import DIGITS, PICTURES, VITS, load, needs, pictures, repquant, run_ours, run_theirs

METHODS = ["minmax", "percentile", "smoothquant", "zeroquant", "repquant", "repq-vit"]
WIDTHS = [(8, 8), (6, 6), (4, 8), (4, 4)]
WEIGHTS = ["per_tensor", "per_channel", "per_rows", "per_group", "two_level"]
RANGES = {"static": {}, "per token": {"mode": "dynamic"}, "per tensor at run time": {"mode": "dynamic", "granularity": "per_tensor"}}
EVAL = 48


def decibels(want, got):
    noise = np.sum((want.astype(np.float64) - got) ** 2)
    return np.inf if noise == 0 else 10 * np.log10(np.sum(want.astype(np.float64) ** 2) / noise)


def recipe_of(method, width, weights, ranges):
    size = {} if weights in ("per_tensor", "per_channel") else {"group_size": 32}
    rebuilt = {"rounding": "gptq"} if method in ("repquant", "zeroquant", "smoothquant") else {}
    return {"name": "matrix", "method": method, "weights": {"bits": width[0], "granularity": weights, **size, **rebuilt},
            "activations": {"bits": width[1], **RANGES[ranges]}, "calibration": {"samples": 16}}


def made(recipe, folder):
    """The artifact, or None and the problem."""
    (folder / "recipe.json").write_text(json.dumps(recipe))
    ended = repquant("quantize", DIGITS / "model.onnx", "--calibration", DIGITS / "calib.npz", "--recipe", folder / "recipe.json", "--output",
                     folder, "--progress", "json", "--threads", "1", status=None)
    if ended.returncode == 0:
        return folder / "model.onnx", None
    assert ended.returncode == 1, ended.stderr
    return None, ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_each_recipe_gives_an_artifact_that_runs_alike_or_is_refused_with_its_reason(method, tmp_path, capsys):
    arrays = {"pixel_values": load(DIGITS / "eval.npz")["pixel_values"][:EVAL]}
    counts, reasons, worst = collections.Counter(), collections.Counter(), {}
    for width, weights, ranges in itertools.product(WIDTHS, WEIGHTS, RANGES):
        artifact, problem = made(recipe_of(method, width, weights, ranges), tmp_path)
        counts["made" if artifact else "refused"] += 1
        if problem:
            assert any(field in problem for field in ("/weights/", "/activations/")), problem
            reasons[problem.strip().splitlines()[-1]] += 1
            continue
        ours, theirs = run_ours(artifact, arrays, tmp_path, batch=16)["logits"], run_theirs(artifact, arrays)["logits"]
        same = float(np.mean(ours.argmax(-1) == theirs.argmax(-1)))
        alike = decibels(theirs, ours)
        worst[width] = min(worst.get(width, np.inf), alike)
        assert same >= 0.95 and alike >= (30 if width[1] == 8 else 15), (method, width, weights, ranges, same, alike)
    with capsys.disabled():
        print(f"\n{method}: {counts['made']} artifacts, {counts['refused']} refused; least agreement in dB "
              + ", ".join(f"w{w}a{a} {worst[w, a]:.1f}" for w, a in worst))
        for reason, n in reasons.items():
            print(f"  {n} refused: {reason}")
    assert counts["made"] > 0 and sum(counts.values()) == len(WIDTHS) * len(WEIGHTS) * len(RANGES)


def presets():
    return [line.split()[0] for line in repquant("recipes").splitlines() if line and not line.startswith(" ")]


def test_every_preset_gives_an_artifact_on_the_example(tmp_path):
    arrays = {"pixel_values": load(DIGITS / "eval.npz")["pixel_values"][:EVAL]}
    names = presets()
    assert len(names) >= 13
    for name in names:
        artifact, problem = made({"preset": name, "calibration": {"samples": 16}}, tmp_path)
        assert artifact, (name, problem)
        assert np.isfinite(run_theirs(artifact, arrays)["logits"]).all()


@pytest.mark.long
@needs(VITS["deit"], PICTURES)
def test_every_preset_gives_an_artifact_on_a_vision_transformer(tmp_path):
    x = load(pictures("deit", "dev", 8))["pixel_values"]
    (tmp_path / "thin.json").write_text(json.dumps({"preset": "minmax-w8a8", "weights": {"bits": 4}, "compensation": {"rank": 8}}))
    (tmp_path / "half.json").write_text(json.dumps({"preset": "minmax-w8a8", "exclude": ["*fc1*"]}))
    for name in [*presets(), tmp_path / "thin.json", tmp_path / "half.json"]:      # the last two have products of floats, whose last bits could show
        repquant("quantize", VITS["deit"], "--calibration", pictures("deit", "calib", 16), "--recipe", name, "--output", tmp_path, "--progress", "none",
                 timeout=600)
        assert np.isfinite(run_theirs(tmp_path / "model.onnx", {"pixel_values": x}, 8)["logits"]).all()
