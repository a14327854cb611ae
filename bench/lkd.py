#!/usr/bin/env python3
"""What layer-by-layer distillation (LKD) gains on ZeroQuant with 4-bit feed-forward layers, and what it costs.

    bench/lkd.py [--cases minilm stories260k deit-tiny] [--samples 64] [--threads 1]

Rows: 8-bit weights; 4-bit feed-forward layers to nearest, taught (the preset zeroquant-lkd-w4a8), by GPTQ, by GPTQ and taught.
minilm: Spearman's correlation on 500 of STS-B's dev pairs, none of whose sentences was calibrated on, and SQNR of the real tokens' states; stories260k: perplexity; deit-tiny:
agreement and SQNR of the logits.  Seconds are processor time of the whole command; of the teaching, wall clock of the updates alone,
which other work on the machine lengthens, beside the operations of their matrix products: over sgemm's rate (build/bench/gemm) the floor.
"""
import argparse
import json
import os
import resource
import subprocess
import sys

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(ROOT, "tests", "tools"), os.path.join(ROOT, "bench")]
import minilm  # noqa: E402
from compare import CASES, DATA, MODELS, OUT, arrays  # noqa: E402
from ort_eval import compare, outputs_of  # noqa: E402

PAIRS = 500
GPTQ = {"ridge": 1, "damping": 0.05, "descents": 2, "bias_correction": True}
LKD = "zeroquant-lkd-w4a8"
RECIPES = {
    "8-bit weights": {"preset": "zeroquant-w8a8"},
    "4/8, to nearest": {"preset": LKD, "reconstruction": {"blocks": False}},
    "4/8, LKD": {"preset": LKD},
    "4/8, GPTQ": {"preset": LKD, "weights": {"rounding": "gptq"}, "reconstruction": {**GPTQ, "blocks": False}},
    "4/8, GPTQ, LKD": {"preset": LKD, "weights": {"rounding": "gptq"}, "reconstruction": {**GPTQ, "blocks": True}},
}


STORIES = (f"{MODELS}/stories260k.onnx", f"{DATA}/tinystories/tinystories_calib.npz", f"{DATA}/tinystories/tinystories_eval.npz", None)


class Sentences:
    name, columns = "minilm", ["Spearman", "SQNR of the states"]

    def __init__(self, samples):
        minilm.fetch()
        texts, scores = minilm.sentence_pairs()
        pairs, used = len(scores), samples // 2
        os.makedirs(OUT, exist_ok=True)
        self.path, self.calib = minilm.MODEL, os.path.join(OUT, f"minilm-calib-{samples}.npz")
        np.savez(self.calib, **minilm.encode(texts[:used] + texts[pairs:pairs + used]))
        rest = slice(used, used + PAIRS)
        self.data, self.scores = minilm.encode(texts[:pairs][rest] + texts[pairs:][rest]), scores[rest]
        self.truth = minilm.states_of(self.data)

    def judge(self, model):
        states = minilm.states_of(self.data, model)
        real = self.data["attention_mask"].astype(bool)
        noise = np.square(states[real] - self.truth[real], dtype=np.float64).sum()
        sqnr = 10 * np.log10(np.square(self.truth[real], dtype=np.float64).sum() / noise) if noise else np.inf
        return [f"{minilm.spearman(states, self.data['attention_mask'], self.scores):.4f}", f"{sqnr:.2f} dB"]


class Logits:
    def __init__(self, name, samples):
        self.name = name
        self.path, calib, evaluation, preprocess = {**CASES, "stories260k": STORIES}[name]
        os.makedirs(OUT, exist_ok=True)
        with np.load(arrays(calib, name + "-calib", preprocess)) as f:
            first = {k: v[:samples] for k, v in f.items() if k != "labels"}
        with np.load(arrays(evaluation, name + "-eval", preprocess)) as f:
            self.data = dict(f)
        self.calib = os.path.join(OUT, f"{name}-calib-{samples}.npz")
        np.savez(self.calib, **first)
        self.words = "input_ids" in self.data
        self.columns = ["perplexity"] if self.words else ["agreement", "SQNR"]
        self.truth = outputs_of(self.path, self.data)[0] if not self.words else None

    def judge(self, model):
        logits = outputs_of(model, self.data, exact=True)[0]
        if self.words:
            x, next_words = logits[:, :-1].astype(np.float64), self.data["input_ids"][:, 1:]
            top = x.max(-1, keepdims=True)
            log = x - top - np.log(np.exp(x - top).sum(-1, keepdims=True))
            return [f"{np.exp(-np.take_along_axis(log, next_words[..., None], -1).mean()):.3f}"]
        r = compare(self.truth, logits)
        return [f"{100 * r['agreement']:.2f} %", f"{r['logit_sqnr_db']:.2f} dB"]


def quantize(case, recipe, threads):
    """(folder, processor seconds, report)"""
    out = os.path.join(OUT, f"{case.name}-lkd")
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "recipe.json"), "w") as f:
        json.dump(recipe, f)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([minilm.REPQUANT, "quantize", case.path, "--calibration", case.calib, "--recipe", os.path.join(out, "recipe.json"),
                    "--output", out, "--threads", str(threads), "--progress", "none"], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(os.path.join(out, "report.json")) as f:
        report = json.load(f)
    return out, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["minilm", "stories260k", "deit-tiny"])
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--distillation", type=json.loads, default={}, help="JSON: other fields of it")
    options = parser.parse_args()
    for name in options.cases:
        case = Sentences(options.samples) if name == "minilm" else Logits(name, options.samples)
        print(f"\n{name}, {options.samples} samples, float: {' / '.join(case.judge(case.path))}\n")
        print(f"| recipe | {' | '.join(case.columns)} | processor s | blocks kept | held-out error | fitted error | s a block | GFLOP a block |\n|"
              + " --- |" * (7 + len(case.columns)))
        for label in options.rows:
            recipe = dict(RECIPES[label])
            if label.endswith("LKD") and options.distillation:
                recipe["distillation"] = options.distillation
            out, cpu, report = quantize(case, recipe, options.threads)
            blocks = report.get("blocks", [])
            cells = ["-"] * 5
            if blocks:
                def ratio(key):
                    return np.mean([b[key + "_after"] / b[key + "_before"] for b in blocks if b[key + "_before"]])
                cells = [f"{sum(b['kept'] for b in blocks)} of {len(blocks)}", f"x {ratio('error'):.3f}", f"x {ratio('fitted'):.3f}",
                         f"{np.mean([b['seconds'] for b in blocks]):.1f}", f"{np.mean([b['gflop'] for b in blocks]):.0f}"]
            print(f"| {label} | {' | '.join(case.judge(os.path.join(out, 'model.onnx')))} | {cpu:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
