#!/usr/bin/env python3
"""Turns a folder of pictures into the .npz that calibration and evaluation take.

    images_to_npz.py FOLDER OUT.npz [--input pixel_values] [--resize 256] [--crop 224]
                     [--mean 0.485 0.456 0.406] [--std 0.229 0.224 0.225] [--layout NCHW] [--limit N]

Each picture is opened as RGB, its short side resized (bicubic), the centre cropped, x/255 normalised to (x - mean) / std.
FOLDER/labels.csv (file,label), if there, gives the order and the labels; otherwise all pictures are taken by name.
FOLDER/preprocess.json, if there, gives defaults for resize, crop, mean, std and layout.
"""
import argparse
import csv
import json
import os

import numpy as np
from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png")


def listed(folder):
    """File names in order, and labels or None."""
    path = os.path.join(folder, "labels.csv")
    if not os.path.exists(path):
        return sorted(f for f in os.listdir(folder) if f.lower().endswith(SUFFIXES)), None
    with open(path, newline="") as f:
        rows = list(csv.DictReader(f))
    return [r["file"] for r in rows], [int(r["label"]) for r in rows]


def pixels(path, resize, crop, mean, std):
    image = Image.open(path).convert("RGB")
    scale = resize / min(image.size)
    if scale != 1:
        image = image.resize([max(resize, round(s * scale)) for s in image.size], Image.Resampling.BICUBIC)
    left, top = (image.width - crop) // 2, (image.height - crop) // 2
    image = image.crop((left, top, left + crop, top + crop))
    return ((np.asarray(image, np.float32) / 255 - mean) / std).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("out")
    parser.add_argument("--input", default="pixel_values", help="the model input's name")
    parser.add_argument("--resize", type=int, default=256, help="length of the short side")
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--mean", type=float, nargs=3, default=[0.485, 0.456, 0.406])
    parser.add_argument("--std", type=float, nargs=3, default=[0.229, 0.224, 0.225])
    parser.add_argument("--layout", choices=["NCHW", "NHWC"], default="NCHW")
    parser.add_argument("--limit", type=int, help="take the first N only")
    args = parser.parse_args()
    preset = os.path.join(args.folder, "preprocess.json")
    if os.path.exists(preset):
        with open(preset) as f:
            given = json.load(f)
        parser.set_defaults(**{k: given[k] for k in ("resize", "crop", "mean", "std", "layout") if k in given})
        args = parser.parse_args()
    if args.crop > args.resize:
        parser.error("--crop is larger than --resize")

    files, labels = listed(args.folder)
    files = files[:args.limit]
    if not files:
        parser.error(f"{args.folder} holds no {' or '.join(SUFFIXES)} and no labels.csv")
    mean, std = np.float32(args.mean), np.float32(args.std)
    x = np.stack([pixels(os.path.join(args.folder, f), args.resize, args.crop, mean, std) for f in files])
    arrays = {args.input: x if args.layout == "NHWC" else np.ascontiguousarray(x.transpose(0, 3, 1, 2))}
    if labels is not None:
        arrays["labels"] = np.array(labels[:args.limit], np.int64)
    np.savez(args.out, **arrays)
    print(f"{args.out}: " + ", ".join(f"{k} {v.dtype}{list(v.shape)}" for k, v in arrays.items()))


if __name__ == "__main__":
    main()
