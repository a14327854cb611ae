#!/usr/bin/env python3
"""Runs a float model and its quantized form in ONNX Runtime over labelled samples and compares them.

    ort_eval.py FLOAT.onnx QUANTIZED.onnx DATA.npz [--batch N] [--json]

DATA holds arrays named as the models' inputs, first axis = samples, and "labels" if there are any.  The first output
counts as the logits.  Nothing of RepQuant is imported: this is what a user's own runtime sees.
"""
import argparse
import json
import os

import numpy as np
import onnxruntime


def logits_of(model, data, batch):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    count = len(data[names[0]])
    parts = [session.run(None, {n: data[n][at:at + batch] for n in names})[0] for at in range(0, count, batch)]
    return np.concatenate(parts)


def compare(float_model, quantized_model, data, batch=32):
    """What a user wants to know, as a dict."""
    a, b = logits_of(float_model, data, batch), logits_of(quantized_model, data, batch)
    noise = float(np.square(a.astype(np.float64) - b).sum())
    result = {
        "samples": len(a),
        "float_bytes": os.path.getsize(float_model),
        "quantized_bytes": os.path.getsize(quantized_model),
        "agreement": float((a.argmax(-1) == b.argmax(-1)).mean()),
        "logit_sqnr_db": 10 * float(np.log10(np.square(a.astype(np.float64)).sum() / noise)) if noise else None,
    }
    if "labels" in data:
        result["float_top1"] = float((a.argmax(-1) == data["labels"]).mean())
        result["quantized_top1"] = float((b.argmax(-1) == data["labels"]).mean())
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("float_model")
    parser.add_argument("quantized_model")
    parser.add_argument("data")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the table")
    args = parser.parse_args()
    with np.load(args.data, allow_pickle=False) as data:
        r = compare(args.float_model, args.quantized_model, dict(data), args.batch)
    if args.json:
        print(json.dumps(r))
        return
    print(f"{'':18}{'float':>12}{'quantized':>12}")
    print(f"{'size':18}{r['float_bytes'] / 1024:>8.0f} KiB{r['quantized_bytes'] / 1024:>8.0f} KiB"
          f"   ({r['float_bytes'] / r['quantized_bytes']:.2f}x smaller)")
    if "float_top1" in r:
        print(f"{'top-1':18}{100 * r['float_top1']:>10.2f} %{100 * r['quantized_top1']:>10.2f} %"
              f"   ({r['samples']} samples)")
    print(f"{'same answer':18}{'':12}{100 * r['agreement']:>10.2f} %")
    if r["logit_sqnr_db"] is not None:
        print(f"{'logit SQNR':18}{'':12}{r['logit_sqnr_db']:>9.1f} dB")


if __name__ == "__main__":
    main()
