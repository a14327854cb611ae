#!/usr/bin/env python3
"""Runs a float model and its quantized form in ONNX Runtime over labelled samples and compares them.

    ort_eval.py FLOAT.onnx QUANTIZED.onnx DATA.npz [--batch N] [--json | --line LABEL]

DATA holds arrays named as the models' inputs, first axis = samples, and "labels" if there are any.  The first output
counts as the logits.  Nothing of RepQuant is imported: this is what a user's own runtime sees.

On x86 processors without VNNI, ONNX Runtime's products of unsigned activations and signed weights saturate at 16 bits unless
the session sets session.x64quantprecision=1.  There a model is run both ways, and both are shown where they differ.
"""
import argparse
import json
import os

import numpy as np
import onnxruntime


def has_vnni():
    with open("/proc/cpuinfo") as f:
        return any(word in ("avx_vnni", "avx512_vnni") for line in f if line.startswith("flags") for word in line.split())


def outputs_of(model, data, batch=32, exact=False):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    count = len(data[names[0]])
    parts = [session.run(None, {n: data[n][at:at + batch] for n in names}) for at in range(0, count, batch)]
    return [np.concatenate(part) for part in zip(*parts)]


def logits_of(model, data, batch=32, exact=False):
    return outputs_of(model, data, batch, exact)[0]


def compare(a, b, labels=None):
    """What a user wants to know of the float model's logits a and the quantized model's logits b, as a dict."""
    noise = float(np.square(a.astype(np.float64) - b).sum())
    result = {
        "samples": len(a),
        "agreement": float((a.argmax(-1) == b.argmax(-1)).mean()),
        "logit_sqnr_db": 10 * float(np.log10(np.square(a.astype(np.float64)).sum() / noise)) if noise else None,
    }
    if labels is not None:
        result["float_top1"] = float((a.argmax(-1) == labels).mean())
        result["quantized_top1"] = float((b.argmax(-1) == labels).mean())
    return result


def row(label, first, results, key, form):
    cells = [first] + [form.format(r[key]) if r[key] is not None else "-" for r in results]
    print(f"{label:14}" + "".join(f"{c:>16}" for c in cells))


def show(results, float_model, quantized_model):
    r = results[0]
    before, after = os.path.getsize(float_model), os.path.getsize(quantized_model)
    print(" " * 14 + "".join(f"{c:>16}" for c in ("float", "quantized", "quantized, x64")[:len(results) + 1]))
    print(f"{'size':14}{before / 1024:>12.0f} KiB{after / 1024:>12.0f} KiB   ({before / after:.2f}x smaller)")
    if "float_top1" in r:
        row("top-1", f"{r['float_top1']:.2%}", results, "quantized_top1", "{:.2%}")
    row("same answer", "", results, "agreement", "{:.2%}")
    row("logit SQNR", "", results, "logit_sqnr_db", "{:.1f} dB")
    print(f"({r['samples']} samples)")
    if len(results) > 1:
        print("\nThis processor has no VNNI: products of u8 and s8 saturate in ONNX Runtime by default.  The column x64 is the same\n"
              'file with session_options.add_session_config_entry("session.x64quantprecision", "1"): set it on such machines.')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("float_model")
    parser.add_argument("quantized_model")
    parser.add_argument("data")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--json", action="store_true", help="print a JSON list in place of the table")
    parser.add_argument("--line", metavar="LABEL", help="print one line in place of the table, of exact products")
    args = parser.parse_args()
    with np.load(args.data, allow_pickle=False) as f:
        data = dict(f)
    float_logits = logits_of(args.float_model, data, args.batch)

    def result(exact):
        return compare(float_logits, logits_of(args.quantized_model, data, args.batch, exact), data.get("labels"))

    if args.line:
        r = result(True)
        top1 = f"top-1 {r['quantized_top1']:.2%}, " if "quantized_top1" in r else ""
        print(f"{args.line:16}{os.path.getsize(args.quantized_model) / 1024:5.0f} KiB   {top1}same answer {r['agreement']:.2%}, "
              f"logit SQNR {r['logit_sqnr_db'] or 200:.1f} dB")
        return
    results = [result(False)]
    if not has_vnni():
        results.append(result(True))
        if abs((results[1]["logit_sqnr_db"] or 0) - (results[0]["logit_sqnr_db"] or 0)) <= 0.5:
            results.pop()
    if args.json:
        print(json.dumps(results))
    else:
        show(results, args.float_model, args.quantized_model)


if __name__ == "__main__":
    main()
