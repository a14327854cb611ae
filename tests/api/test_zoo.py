"""The zoo of tests/golden: exports of small networks with random weights, in the spellings of two exporters.

Every file runs as in ONNX Runtime, shows each of its layers in the role that its architecture gives it, and goes through
every preset: what comes out is executed alike by our engine and by ONNX Runtime.
"""
import collections
import json

import numpy as np
import onnx
import pytest
from conftest import ROOT
from support import quantize, repquant, run_ours, session

ZOO = ROOT / "tests" / "golden" / "zoo"
WORDS = 64
PRESETS = ["minmax-w8a8", "percentile-w8a8", "smoothquant-w8a8", "smoothquant-group-w8a8", "zeroquant-w8a8", "zeroquant-w4a8", "zeroquant-lkd-w4a8", "repquant-w8a8", "repquant-w6a6", "repquant-w4a8", "repquant-w4a4", "repq-vit-w4a4"]
# What must hold of the outputs, dB at least: ours against ONNX Runtime's, and against the float model (a floor that only
# catches nonsense: random weights say nothing of accuracy, and other samples gave up to 10 dB more or less).  A value on the
# boundary of two codes may fall on either side, for a sum that differs in its last bit; with one bit of activations less,
# such a step is twice as large.
AGREE = {"repquant-w6a6": 28, "repquant-w4a4": 16, "repq-vit-w4a4": 16}
KEEPS = {"repquant-w6a6": 10, "repquant-w4a8": 8, "repquant-w4a4": 4, "repq-vit-w4a4": 0}


def of(linear, attention, norms, softmax=None, conv=0, left=None, rms=False, shared=0, **activations):
    """What an architecture consists of: counted from its definition in zoo_models.py, not from what inspect says."""
    layers = {"linear": linear, "convolution": conv, "attention_qk": attention, "attention_pv": attention}
    return {"layers": {k: v for k, v in layers.items() if v}, "norms": {"rms_norm" if rms else "layer_norm": norms},
            "softmaxes": softmax or attention, "activations": activations, "left": left or {}, "shared": shared}


def embeddings(n, **more):
    """Tables that words, positions and kinds of tokens are looked up in."""
    return {"Gather": n, **more}


PICTURE = {"attention": 2, "norms": 5, "conv": 1}
MOBILE = of(2 * 4 + 1, 2, 5, conv=2, silu=2 + 3, left={"Conv": 1})                        # the depthwise one stays
BERT = of(2 * 6 + 2, 2, 1 + 4, gelu=2, left=embeddings(3))
ROBERTA = of(2 * 6 + 2, 2, 1 + 4 + 1, gelu=3, left=embeddings(2))
DISTILBERT = of(2 * 6 + 2, 2, 1 + 4, gelu=2, relu=1, left=embeddings(2))
# The relative positions are the same for every input: their keys and queries are constants, one matrix for each head.
DEBERTA = of(2 * 6 + 1, 2, 1 + 4, gelu=2, left=embeddings(2, MatMul=4))
GPT2 = of(2 * 4 + 1, 2, 5, gelu_tanh=2, left=embeddings(2))
OPT = of(2 * 6 + 1, 2, 5, relu=2, left=embeddings(2))
LLAMA = of(2 * 7 + 1, 2, 5, rms=True, silu=2, left=embeddings(1, MatMul=1))             # the frequencies times the positions
CLIP = of(2 * (2 * 6) + 2, 4, 1 + 4 + 4 + 2, conv=1, quick_gelu=4, left=embeddings(2))
WHISPER = of(2 * 6, 2, 5, conv=2, gelu=2 + 2)                                           # 1-D

EXPECTED = {
    "vit-ts11": of(2 * 4 + 1, **PICTURE, gelu=2), "vit-dyn20": of(2 * 4 + 1, **PICTURE, gelu=2),
    "vit-dyn23": of(2 * 6 + 1, **PICTURE, gelu=2),
    "deit-ts14": of(2 * 4 + 2, **PICTURE, gelu=2), "deit-dyn18": of(2 * 4 + 2, **PICTURE, gelu=2),
    "swin-ts17": of(3 * 4 + 2, 3, 1 + 3 * 2 + 1 + 1, conv=1, gelu=3),
    "swin-ts13-mask": of(3 * 4 + 2, 3, 1 + 3 * 2 + 1 + 1, conv=1, gelu=3),
    "swin-dyn18": of(3 * 6 + 2, 3, 1 + 3 * 2 + 1 + 1, conv=1, gelu=3),
    "beit-ts13": of(2 * 6 + 1, **PICTURE, gelu=2), "beit-dyn20": of(2 * 6 + 1, **PICTURE, gelu=2),
    "mobilevit-ts13": MOBILE, "mobilevit-dyn20": MOBILE,
    "bert-ts11": BERT, "bert-raw13": BERT, "bert-dyn20": BERT,
    "roberta-ts13": ROBERTA, "roberta-dyn18": ROBERTA, "distilbert-ts12": DISTILBERT, "distilbert-dyn20": DISTILBERT,
    "albert-ts13": of(2 * 6 + 2, 2, 1 + 4, gelu_tanh=2, left=embeddings(3), shared=2 * 6),
    # This exporter transposes the MLP's two weights once for each use.
    "albert-dyn18": of(2 * 6 + 2, 2, 1 + 4, gelu_tanh=2, left=embeddings(3), shared=2 * 4),
    "deberta-ts13": DEBERTA, "deberta-dyn18": DEBERTA, "gpt2-ts13": GPT2, "gpt2-dyn18": GPT2, "opt-ts14": OPT, "opt-dyn20": OPT,
    "llama-ts17": LLAMA, "llama-dyn18": LLAMA, "llama-dyn23": LLAMA,
    "t5-ts13": of(2 * 6, 2, 5, rms=True, relu=2, left=embeddings(2)),
    "t5-dyn18": of(2 * 7, 2, 5, rms=True, gelu_tanh=2, left=embeddings(2)),
    "clip-ts14": CLIP, "clip-dyn20": CLIP, "whisper-ts17": WHISPER, "whisper-dyn20": WHISPER,
    "library-ts14": of(1 + 2 * 4 + 1, 2, 4, gelu=2),
}
every_file = pytest.mark.parametrize("name", EXPECTED)


def arrays_for(name, batch, length, seed):
    """Random inputs; every second sample of two or more tokens is padded."""
    rng, arrays = np.random.default_rng(seed), {}
    for i in session(ZOO / f"{name}.onnx").get_inputs():
        shape = [batch, *(d if isinstance(d, int) else length for d in i.shape[1:])]
        if i.name == "attention_mask":
            arrays[i.name] = np.ones(shape, np.int64)
            arrays[i.name][::2, max(1, length - 2):] = 0
        elif "int" in i.type:
            low, high = (2, WORDS) if i.name == "input_ids" else (0, 2)
            arrays[i.name] = rng.integers(low, high, shape)
        else:
            arrays[i.name] = rng.standard_normal(shape).astype(np.float32)
    return arrays


def outputs(model, arrays, folder):
    """Ours and ONNX Runtime's; every file has one output."""
    (theirs,), (ours,) = session(model).run(None, arrays), run_ours(model, arrays, folder).values()
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype and np.isfinite(theirs).all()
    return ours, theirs


def decibels(want, got):
    return 10 * np.log10(np.square(want, dtype=np.float64).sum() / max(np.square(want - got, dtype=np.float64).sum(), 1e-30))


def test_every_file_is_expected():
    assert sorted(p.stem for p in ZOO.glob("*.onnx")) == sorted(EXPECTED)


@every_file
@pytest.mark.parametrize("batch, length", [(2, 7), (5, 1), (1, 24)])
def test_a_file_gives_the_outputs_of_onnx_runtime(name, batch, length, tmp_path):
    ours, theirs = outputs(ZOO / f"{name}.onnx", arrays_for(name, batch, length, 1), tmp_path)
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


@every_file
def test_inspect_shows_every_layer_in_its_role(name):
    told = json.loads(repquant("inspect", ZOO / f"{name}.onnx", "--json"))
    assert all(left["reason"] for left in told["left_float"])
    assert {
        "layers": collections.Counter(layer["role"] for layer in told["layers"]),
        "norms": collections.Counter(norm["kind"] for norm in told["norms"]),
        "softmaxes": told["softmaxes"],
        "activations": {a["kind"]: a["count"] for a in told["activations"]},
        "left": collections.Counter(left["op"] for left in told["left_float"]),
        "shared": sum(layer.get("shared_weight", False) for layer in told["layers"]),
    } == EXPECTED[name]


@pytest.mark.parametrize("name", ["vit-ts11", "swin-ts17", "bert-ts11", "gpt2-dyn18", "llama-ts17", "llama-dyn23", "t5-dyn18", "whisper-ts17"])
def test_factors_and_ranges_for_each_token_together(name, tmp_path):
    np.savez(tmp_path / "calib.npz", **arrays_for(name, 32, 12, 2))
    recipe = {"preset": "smoothquant-w8a8", "activations": {"mode": "dynamic"}}
    out = quantize(ZOO / f"{name}.onnx", tmp_path / "calib.npz", tmp_path, recipe)
    arrays = arrays_for(name, 4, 9, 3)
    ours, theirs = outputs(out / "model.onnx", arrays, tmp_path)
    (plain,) = session(ZOO / f"{name}.onnx").run(None, arrays)
    assert decibels(theirs, ours) >= 40 and decibels(plain, theirs) >= 15
    # Both streams of a layer are compared in one unit, whatever the norm before it took up.
    rows = [r for r in json.loads((out / "report.json").read_text())["layers"] if r["role"] == "linear" and r["channel_exponent"] is not None]
    assert all(r["accumulated_sqnr_db"] > 10 for r in rows)


# Layers behind norms that take up channel factors, whatever stands between: q, k, v (or all in one), what follows in the MLP, the head.
# Swin: two of three blocks are not shifted; a shift puts two parts of a tensor together again.
BEHIND_NORMS = {"gpt2-ts13": 2 * 2 + 1, "gpt2-dyn18": 2 * 2 + 1, "llama-ts17": 2 * 5 + 1, "llama-dyn23": 2 * 5 + 1, "t5-ts13": 2 * 4,
                "swin-ts17": 3 * 2, "vit-ts11": 2 * 2 + 1, "opt-ts14": 2 * 4 + 1}


@pytest.mark.parametrize("name", BEHIND_NORMS)
def test_norms_take_up_the_factors_of_what_they_feed(name, tmp_path):
    np.savez(tmp_path / "calib.npz", **arrays_for(name, 16, 12, 2))
    report = json.loads((quantize(ZOO / f"{name}.onnx", tmp_path / "calib.npz", tmp_path, "repquant-w4a4") / "report.json").read_text())
    assert sum(layer["channel_exponent"] is not None for layer in report["layers"]) == BEHIND_NORMS[name]


def test_the_presets_are_those():
    assert all(preset in repquant("recipes") for preset in PRESETS)


@pytest.mark.thinned(5, tsan=25)     # no divisor of the presets' number: each file goes through some, each preset gets some
@every_file
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_gives_what_onnx_runtime_executes_alike(name, preset, tmp_path):
    np.savez(tmp_path / "calib.npz", **arrays_for(name, 32, 12, 2))
    artifact = quantize(ZOO / f"{name}.onnx", tmp_path / "calib.npz", tmp_path, preset) / "model.onnx"
    arrays = arrays_for(name, 4, 9, 3)
    ours, theirs = outputs(artifact, arrays, tmp_path)
    (plain,) = session(ZOO / f"{name}.onnx").run(None, arrays)
    assert decibels(theirs, ours) >= AGREE.get(preset, 40)
    assert decibels(plain, theirs) >= KEEPS.get(preset, 15)


# ---- the two towers of CLIP ----

def embeddings_of(path, names, arrays, folder):
    """What ONNX Runtime computes for inner tensors, which become the file's outputs."""
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    onnx.save(model, folder / "inner.onnx")
    return session(folder / "inner.onnx").run(None, arrays)


def normalised(path):
    """The embeddings, of unit length: what is divided by its norm."""
    nodes = onnx.load(path).graph.node
    lengths = {name for n in nodes if n.op_type == "ReduceL2" for name in n.output}
    return [n.output[0] for n in nodes if n.op_type == "Div" and n.input[1] in lengths]


@pytest.mark.parametrize("preset", ["percentile-w8a8", "repquant-w8a8"])
@pytest.mark.parametrize("name", [n for n in EXPECTED if n.startswith("clip-")])
def test_quantized_towers_give_the_embeddings_of_the_float_ones(name, preset, tmp_path):
    source = ZOO / f"{name}.onnx"
    np.savez(tmp_path / "calib.npz", **arrays_for(name, 32, 12, 2))
    artifact = quantize(source, tmp_path / "calib.npz", tmp_path, preset) / "model.onnx"
    arrays, inner = arrays_for(name, 64, 9, 3), normalised(source)
    assert len(inner) == 2 and normalised(artifact) == inner
    want, got = (embeddings_of(path, inner, arrays, tmp_path) for path in (source, artifact))
    cosines = [np.sum(a * b, -1) for a, b in zip(want, got)]
    assert all(c.min() >= 0.99 for c in cosines), [c.min() for c in cosines]
