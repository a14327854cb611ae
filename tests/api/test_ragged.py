"""Sentences of several lengths in one calibration set: padding is in no figure, however much of it there is."""
import functools
import json

import numpy as np
import onnx
import pytest
from conftest import ROOT
from support import quantize, repquant, run_ours, session

ZOO = ROOT / "tests" / "golden" / "zoo"
SENTENCES, LONGEST = 24, 12


@functools.cache
def inputs_of(name):
    return [i.name for i in session(ZOO / f"{name}.onnx").get_inputs()]


def sentences():
    rng = np.random.default_rng(0)
    return [rng.integers(2, 60, n) for n in rng.integers(2, LONGEST + 1, SENTENCES)]


def padded(name, texts, to, pad):
    """What the model takes, every sentence padded to one length; without a mask of its own the model's set has lengths."""
    ids, mask = np.full((len(texts), to), pad), np.zeros((len(texts), to), np.int64)
    for i, text in enumerate(texts):
        ids[i, :len(text)], mask[i, :len(text)] = text, 1
    arrays = {i: np.zeros_like(ids) for i in inputs_of(name)} | {"input_ids": ids}
    return arrays | ({"attention_mask": mask} if "attention_mask" in arrays else {"lengths": mask.sum(1)})


def quantized(name, arrays, folder, recipe):
    folder.mkdir()
    np.savez(folder / "calib.npz", **arrays)
    out = quantize(ZOO / f"{name}.onnx", folder / "calib.npz", folder, recipe)
    rows = json.loads((out / "report.json").read_text())["layers"]
    return (out / "model.onnx").read_bytes(), [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


LAW = [("bert-ts11", "repquant-w4a4"), ("bert-dyn20", "smoothquant-w8a8"), ("distilbert-ts12", "zeroquant-lkd-w4a8"), ("gpt2-dyn18", "repquant-w8a8"),
       ("deberta-ts13", "percentile-w8a8")]


@pytest.mark.parametrize("name, recipe", LAW)
def test_more_padding_changes_no_byte(name, recipe, tmp_path):
    texts = sentences()
    little = quantized(name, padded(name, texts, LONGEST, 1), tmp_path / "little", recipe)
    much = quantized(name, padded(name, texts, 2 * LONGEST, 37), tmp_path / "much", recipe)
    assert little == much
    whole = padded(name, texts, 2 * LONGEST, 37)
    untold = {k: np.ones_like(v) if k == "attention_mask" else v for k, v in whole.items() if k != "lengths"}
    assert quantized(name, untold, tmp_path / "untold", recipe) != much     # padding that is not told of does count


@pytest.mark.parametrize("name", ["bert-ts11", "gpt2-dyn18"])
def test_ranges_are_those_of_the_sentences_alone(name, tmp_path):
    """What the first layer of all sees is float, so ONNX Runtime can tell its extremes, sentence by sentence and without padding."""
    texts = sentences()
    _, rows = quantized(name, padded(name, texts, 3 * LONGEST, 59), tmp_path / "set", "minmax-w8a8")
    first = next(r for r in rows if r["role"] == "linear")
    m = onnx.load(ZOO / f"{name}.onnx")
    tensor = next(layer["input"] for layer in json.loads(repquant("inspect", ZOO / f"{name}.onnx", "--json"))["layers"] if layer["name"] == first["name"])
    m.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    s = session(m.SerializeToString())
    seen = []
    for text in texts:
        arrays = padded(name, [text], len(text), 0)
        seen.append(s.run([tensor], {i.name: arrays[i.name] for i in s.get_inputs()})[0])
    low, high = min(x.min() for x in seen), max(x.max() for x in seen)
    assert first["act_min"] == pytest.approx(low, rel=1e-5) and first["act_max"] == pytest.approx(high, rel=1e-5)


@pytest.mark.parametrize("recipe", ["repquant-w4a4", "repq-vit-w4a4"])
def test_attention_with_its_sequence_on_axis_1_has_no_heads(recipe, tmp_path):
    """Heads attend to heads within each token: axis 1 of the probabilities is as long as the sentence."""
    words, width, heads, longest = 64, 32, 8, 96
    rng, node = np.random.default_rng(0), onnx.helper.make_node
    weights = {f"{name}/w": rng.normal(0, 0.2, (width, width)).astype(np.float32) for name in "qkvo"}
    constants = {"table": rng.standard_normal((words, width)).astype(np.float32), "last": np.int64([2]), "split": np.int64([0, 0, heads, width // heads]),
                 "joined": np.int64([0, 0, width]), "tokens": np.int64([1])}
    nodes = [node("Gather", ["table", "input_ids"], ["e"]), node("Cast", ["attention_mask"], ["m"], to=onnx.TensorProto.FLOAT),
             node("Unsqueeze", ["m", "last"], ["mask"]), node("Mul", ["e", "mask"], ["x"])]
    for name in "qkv":
        nodes += [node("MatMul", ["x", f"{name}/w"], [f"{name}/y"]), node("Reshape", [f"{name}/y", "split"], [name])]
    nodes += [node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]), node("MatMul", ["q", "kt"], ["scores"]), node("Softmax", ["scores"], ["p"], axis=-1),
              node("MatMul", ["p", "v"], ["o"]), node("Reshape", ["o", "joined"], ["rows"]), node("MatMul", ["rows", "o/w"], ["out"]),
              node("ReduceSum", ["out", "tokens"], ["y"], keepdims=0)]
    ids = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["n", "s"]) for name in ("input_ids", "attention_mask")]
    graph = onnx.helper.make_graph(nodes, "g", ids, [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", width])],
                                   [onnx.numpy_helper.from_array(v, k) for k, v in {**weights, **constants}.items()])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx")
    lengths = np.array([longest, *(1 + i % 3 for i in range(31))])
    np.savez(tmp_path / "calib.npz", input_ids=rng.integers(0, words, (len(lengths), longest)),
             attention_mask=(np.arange(longest) < lengths[:, None]).astype(np.int64))
    out = quantize(tmp_path / "model.onnx", tmp_path / "calib.npz", tmp_path, recipe)
    rows = json.loads((out / "details.json").read_text())["layers"]
    seen = next(r["activation"]["histogram_before"] for r in rows if r["name"].endswith("pv"))
    assert 0 <= seen["min"] <= seen["max"] <= 1
    assert sum(seen["counts"]) == lengths.sum() * heads * heads


def test_padding_that_stays_is_told_of(tmp_path):
    """Where the model's length is fixed, or padding does not lie at the end."""
    m = onnx.load(ZOO / "bert-ts11.onnx")
    for i in m.graph.input:
        i.type.tensor_type.shape.dim[1].dim_value = LONGEST
    onnx.save(m, tmp_path / "fixed.onnx")
    arrays = padded("bert-ts11", sentences(), LONGEST, 1)
    share = 100 - 100 * arrays["attention_mask"].mean()
    left = {name: array[:, ::-1] for name, array in arrays.items()}
    for model, given, why in ((tmp_path / "fixed.onnx", arrays, "have a fixed length"), (ZOO / "bert-ts11.onnx", left, "pad at the end"),
                              (ZOO / "bert-ts11.onnx", arrays, None)):
        np.savez(tmp_path / "calib.npz", **given)
        told = repquant("quantize", model, "--calibration", tmp_path / "calib.npz", "--recipe", "minmax-w8a8", "--output", tmp_path / "out",
                        "--progress", "none", status=None)
        assert told.returncode == 0
        assert f"{share:.1f} % of the calibrated positions are padding" in told.stderr and why in told.stderr if why else "are padding" not in told.stderr


def test_a_run_gives_every_position_as_it_is(tmp_path):
    arrays = padded("gpt2-dyn18", sentences(), LONGEST + 3, 5)
    ours = run_ours(ZOO / "gpt2-dyn18.onnx", arrays, tmp_path)
    s = session(ZOO / "gpt2-dyn18.onnx")
    for theirs, (name, got) in zip(s.run(None, {"input_ids": arrays["input_ids"]}), ours.items()):
        assert got.shape == theirs.shape and np.abs(got - theirs).max() <= 1e-4 * np.abs(theirs).max(), name


def nll(logits, ids):
    z = logits.astype(np.float64)[:-1]
    return np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1)) + z.max(-1) - z[np.arange(len(ids) - 1), ids[1:]]


def test_an_evaluation_counts_tokens_alone(tmp_path):
    texts, model = sentences(), ZOO / "gpt2-dyn18.onnx"
    s = session(model)
    losses = np.concatenate([nll(s.run(None, {"input_ids": t[None]})[0][0], t) for t in texts])
    answers = []
    for to, pad in ((LONGEST, 0), (2 * LONGEST, 41)):
        np.savez(tmp_path / "eval.npz", **padded("gpt2-dyn18", texts, to, pad))
        answers.append(json.loads(repquant("evaluate", model, "--data", tmp_path / "eval.npz", "--reference", model, "--json")))
    for told in answers:
        assert told["perplexity"]["quantized"] == pytest.approx(float(np.exp(losses.mean())), rel=1e-5)
        assert told["agreement"]["quantized"] == 100 and told["cosine"]["quantized"] == pytest.approx(1)


def test_lengths_that_cannot_be_are_refused(tmp_path):
    arrays = padded("gpt2-dyn18", sentences(), LONGEST, 0)
    for lengths, says in ((arrays["lengths"] * 0, "sample 0 has length 0"), (arrays["lengths"] + LONGEST, f"not within 1..{LONGEST}"),
                          (arrays["lengths"][1:], "one length a sample"), (arrays["lengths"] / 2, "lengths.astype")):
        np.savez(tmp_path / "bad.npz", **arrays | {"lengths": lengths})
        ended = repquant("quantize", ZOO / "gpt2-dyn18.onnx", "--calibration", tmp_path / "bad.npz", "--recipe", "minmax-w8a8", "--output", tmp_path / "out",
                         status=None)
        assert ended.returncode == 1 and "repquant: lengths:" in ended.stderr and says in ended.stderr
    ragged = np.empty(3, object)
    ragged[:] = sentences()[:3]
    np.savez(tmp_path / "bad.npz", input_ids=ragged)
    ended = repquant("quantize", ZOO / "gpt2-dyn18.onnx", "--calibration", tmp_path / "bad.npz", "--recipe", "minmax-w8a8", "--output", tmp_path / "out",
                     status=None)
    assert ended.returncode == 1 and "input_ids" in ended.stderr and 'padded and with an array "lengths"' in ended.stderr
