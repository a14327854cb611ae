#!/usr/bin/env python3
"""Accuracy of RepQuant's presets on real vision transformers in ONNX Runtime, and what each of its parts is worth.

    bench/accuracy.py [--models deit-tiny vit-tiny] [--recipes repquant-w4a4 ...] [--pictures 64] [--orders 3]
    bench/accuracy.py --presets [--models deit-tiny] [--orders 1]  # every preset of `repquant recipes`
    bench/accuracy.py --ablation [--models ...] [--orders 3]
    bench/accuracy.py --schedules [--models ...] [--orders 3]      # blocks taught behind repquant-w4a4, three ways

Calibration on imagenet-samples/calib (DATA_DIR), evaluation on all of dev, labels of both unseen by the quantizer.  An order
is a permutation of the calibration pictures (order 0: as they lie) and the seed of the searches; a row is the median over orders.
Columns: top-1, agreement with the float model, SQNR of the logits on dev and, to be set against it, on the calibration pictures;
the same two of the residual stream behind the last block: what the reconstruction fits, before and after the data was seen.
Products are asked to be exact (session.x64quantprecision), so that the processor is not judged.  Prints Markdown.  Seconds are
processor time of the whole command.  What was judged is kept in build/bench/accuracy.json, by the quantizer's hash too: a run that
was stopped goes on where it was.
"""
import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys

import numpy as np
import onnx
from onnx import numpy_helper

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(ROOT, "tests", "tools"), os.path.join(ROOT, "bench")]
from compare import CASES, OUT, arrays  # noqa: E402
from ort_eval import compare, outputs_of  # noqa: E402

REPQUANT = os.environ.get("REPQUANT", os.path.join(ROOT, "build", "repquant"))
KEPT = os.path.join(OUT, "accuracy.json")
WIDTHS = ["repquant-w4a4", "repquant-w6a6", "repquant-w4a8", "repquant-w8a8"]


def without(preset, **changes):
    return {"preset": preset, **changes}


# What is left when one part of the whole is taken away, at 4 bits where it shows.
PARTS = {
    "all of it": {},
    "no clipping of channels": {"channels": {"clipping": "minmax"}},
    "learned clipping": {"channels": {"clipping": "learned"}},
    "exponent 1 (RepQ-ViT's fold)": {"channels": {"norms": "full"}},
    "no channel scales behind norms": {"channels": {"norms": "off"}},
    "no factors behind GELU and convolutions": {"channels": {"activations": False}},
    "softmax in equal steps": {"attention": {"softmax": "uniform"}},
    "softmax in powers of 2": {"attention": {"softmax": "log2"}},
    "softmax without a code for zero": {"saturate": True},
    "target: the layer itself": {"reconstruction": {"target": 0}},
    "target: the float stream": {"reconstruction": {"target": 1}},
    "no residual in the target": {"reconstruction": {"residual": False}},
    "weights to nearest": {"weights": {"rounding": "nearest"}},
    "weights to nearest, no bias correction": {"weights": {"rounding": "nearest"}, "reconstruction": {"bias_correction": False}},
}

# Blocks taught as a whole behind their layers.
SCHEDULES = {
    "layers alone": {},
    "40 updates of 8, rate 0.005, student's input": {"input": "student", "steps": 40, "batch": 8, "rate": 0.005},
    "40 updates of 8, rate 0.02, student's input": {"input": "student", "steps": 40, "batch": 8, "rate": 0.02},
    "20 updates of 8, rate 0.02, both inputs": {"input": "both", "steps": 20, "batch": 8, "rate": 0.02},
}


def saturate(path, bits):
    """Takes the code of zero out of an artifact: what falls below the lowest level takes that level (never written by RepQuant itself)."""
    m = onnx.load(path)
    makers, constants = {o: n for n in m.graph.node for o in n.output}, {i.name: i for i in m.graph.initializer}
    for node in m.graph.node:
        if node.op_type == "ThresholdedRelu":
            clip = makers[makers[makers[node.input[0]].input[0]].input[0]]
            assert clip.op_type == "Clip" and len(clip.input) == 2
            last = numpy_helper.to_array(constants[clip.input[1]]) + np.float32(2**bits - 2)
            m.graph.initializer.append(numpy_helper.from_array(last, clip.input[1] + "_last"))
            clip.input.append(clip.input[1] + "_last")
            node.op_type = "Identity"
            del node.attribute[:]
    onnx.save(m, path)


def stream_of(path):
    """The residual stream's last tensor: what the last addition of two computed values gives."""
    nodes = onnx.load(path).graph.node
    made = {o for n in nodes if n.op_type != "Constant" for o in n.output}
    return [n.output[0] for n in nodes if n.op_type == "Add" and made.issuperset(n.input)][-1]


def showing(path, value, out):
    """The model with one more output."""
    m = onnx.load(path)
    m.graph.output.append(onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None))
    onnx.save(m, out)
    return out


def every_preset():
    listed = subprocess.run([REPQUANT, "recipes"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [line.split()[0] for line in listed.splitlines()]


def hash_of(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()[:16]


class Kept:
    """What this very quantizer was judged to do, in a file."""

    def __init__(self):
        self.quantizer = hash_of(REPQUANT)
        self.rows = {}
        if os.path.exists(KEPT):
            with open(KEPT) as f:
                self.rows = json.load(f)

    def get(self, key, make):
        key = json.dumps([self.quantizer, *key])
        if key not in self.rows:
            self.rows[key] = make()
            with open(KEPT + ".new", "w") as f:
                json.dump(self.rows, f, indent=0)
            os.replace(KEPT + ".new", KEPT)
        return self.rows[key]


class Model:
    """One model with its data, the float outputs computed once."""

    def __init__(self, name):
        self.name, (self.path, calib, evaluation, preprocess) = name, CASES[name]
        with np.load(arrays(calib, name + "-calib", preprocess)) as f:
            self.calib = dict(f)
        with np.load(arrays(evaluation, name + "-eval", preprocess)) as f:
            self.dev = dict(f)
        self.stream, self.shown = stream_of(self.path), os.path.join(OUT, f"{name}-stream.onnx")
        os.makedirs(OUT, exist_ok=True)
        showing(self.path, self.stream, self.shown)
        self.truth, self.calib_truth = self.float_outputs("eval", self.dev), self.float_outputs("calib", self.calib)

    def float_outputs(self, which, data):
        """Logits and stream of the float model, kept in a file."""
        path = os.path.join(OUT, f"{self.name}-{which}-float-{hash_of(self.path)}.npz")
        if not os.path.exists(path):
            np.savez(path + ".new.npz", *outputs_of(self.shown, data))
            os.replace(path + ".new.npz", path)
        with np.load(path) as f:
            return [f[f"arr_{i}"] for i in range(len(f.files))]

    def ordered(self, order, count):
        """An npz of the first `count` calibration samples in the order's permutation, the same samples for every order."""
        path = os.path.join(OUT, f"{self.name}-order{order}-{count}.npz")
        if not os.path.exists(path):
            rows = np.arange(count) if order == 0 else np.random.default_rng(order).permutation(count)
            np.savez(path, **{k: v[rows] for k, v in self.calib.items()})
        return path

    def quantize(self, recipe, order, count, out):
        """Processor seconds, or what the quantizer says against the recipe."""
        os.makedirs(out, exist_ok=True)
        with open(os.path.join(out, "recipe.json"), "w") as f:
            json.dump(recipe, f)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([REPQUANT, "quantize", self.path, "--calibration", self.ordered(order, count), "--recipe",
                               os.path.join(out, "recipe.json"), "--output", out, "--seed", str(order), "--progress", "none"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = done.stderr.strip().rpartition("\n")[2]
        if done.returncode == 1 and "[worker.canceled]" not in said:
            return None, said
        done.check_returncode()
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, None

    def judge(self, recipe, order, count):
        """top-1 %, agreement %, logit SQNR on dev and on the calibration set, the stream's on both; of each picture, whether it agrees."""
        recipe = dict(recipe)
        without_zero = recipe.pop("saturate", False)
        out = os.path.join(OUT, f"{self.name}-accuracy")
        seconds, refused = self.quantize(recipe, order, count, out)
        if refused:
            return {"refused": refused}
        model = os.path.join(out, "model.onnx")
        file = 100 * os.path.getsize(model) / os.path.getsize(self.path)
        if without_zero:
            saturate(model, bits=4)
        showing(model, self.stream, model)
        used = {k: v[:count] for k, v in self.calib.items()}
        dev, calib = outputs_of(model, self.dev, exact=True), outputs_of(model, used, exact=True)
        judged = compare(self.truth[0], dev[0], self.dev["labels"])
        sqnrs = [compare(want[:len(got)], got)["logit_sqnr_db"] for i in (0, -1)
                 for want, got in ((self.truth[i], dev[i]), (self.calib_truth[i], calib[i]))]
        with open(os.path.join(out, "report.json")) as f:
            blocks = json.load(f).get("blocks", [])
        return {"columns": [100 * judged["quantized_top1"], 100 * judged["agreement"], *sqnrs], "seconds": seconds, "file": file, "blocks": blocks,
                "agrees": (self.truth[0].argmax(-1) == dev[0].argmax(-1)).tolist()}


def gain(results, base):
    """Points of agreement more than `base`, and the standard error of that: pictures are paired, orders averaged for each of them."""
    orders = min(len(results), len(base))
    each = 100 * np.mean([np.subtract(r["agrees"], b["agrees"], dtype=float) for r, b in zip(results[:orders], base[:orders])], axis=0)
    return f"{each.mean():+.2f} +- {each.std(ddof=1) / np.sqrt(len(each)):.2f}"


def taught(results):
    """Blocks that changed, and the mean ratio of their held-out errors."""
    blocks = [b for r in results for b in r["blocks"]]
    if not blocks:
        return "-"
    ratios = [b["error_after"] / b["error_before"] for b in blocks if b.get("error_before")]
    return f"{sum(b['kept'] for b in blocks)} of {len(blocks)}" + (f", least {min(ratios):.3f}, mean {np.mean(ratios):.3f}" if ratios else "")


def row(model, label, recipe, options, base=None):
    """Prints a row; returns its results, one an order."""
    results = [options.kept.get([model.name, recipe, order, options.pictures], lambda: model.judge(recipe, order, options.pictures))
               for order in range(options.orders)]
    refused = next((r["refused"] for r in results if "refused" in r), None)
    if refused:
        print(f"| {model.name} | {label} | refused: {refused} |", flush=True)
        return None
    median = [statistics.median(column) for column in zip(*(r["columns"] for r in results))]
    spread = max(r["columns"][1] for r in results) - min(r["columns"][1] for r in results)
    cells = [f"{x:.2f}" for x in [*median, spread]] + [f"{statistics.median(r[key] for r in results):.1f}" for key in ("seconds", "file")]
    if options.schedules is not None:
        cells += [gain(results, base) if base else "-", taught(results)]
    print(f"| {model.name} | {label} | {' | '.join(cells)} |", flush=True)
    return results


HEADINGS = ["model", "recipe", "top-1", "agreement", "logit SQNR, dev", "calibration", "stream SQNR, dev", "calibration", "agreement, most - least",
            "processor s", "file %"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=CASES)
    parser.add_argument("--recipes", nargs="+", default=WIDTHS)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--orders", type=int, default=3)
    parser.add_argument("--presets", action="store_true")
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--schedules", nargs="*", choices=SCHEDULES)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="of the ablation")
    options = parser.parse_args()
    names = options.models or (["digits"] if options.ablation else []) + ["deit-tiny", "vit-tiny"]
    headings = HEADINGS + (["agreement against the first", "blocks changed, held-out error"] if options.schedules is not None else [])
    os.makedirs(OUT, exist_ok=True)
    options.kept = Kept()
    print(f"median of {options.orders} orders, {options.pictures} calibration samples\n")
    print(f"| {' | '.join(headings)} |\n|" + " --- |" * len(headings))
    for name in names:
        if not os.path.exists(CASES[name][0]):
            print(f"{name}: SKIPPED, {CASES[name][0]} is absent", file=sys.stderr)
            continue
        model, base = Model(name), None
        if options.schedules is not None:
            for label in options.schedules or SCHEDULES:
                changes = {"reconstruction": {"blocks": True}, "distillation": SCHEDULES[label]} if SCHEDULES[label] else {}
                results = row(model, label, without("repquant-w4a4", **changes), options, base)
                base = base or results
        elif options.ablation:
            for label in options.parts:
                row(model, label, without("repquant-w4a4", **PARTS[label]), options)
        else:
            for recipe in every_preset() if options.presets else options.recipes:
                row(model, recipe, without(recipe), options)


if __name__ == "__main__":
    main()
