#!/usr/bin/env python3
"""Make a calibration or evaluation .npz from a folder of pictures.

The folder holds JPEG or PNG files and, for evaluation, labels.csv with the header "file,label" and one line for each
picture. The result has one float32 array [N,3,H,W] named as the model's input, (x/255 - mean)/std in RGB, and with labels.csv
an int64 array `labels` [N]. Pictures are taken in the sorted order of their file names, so the same folder gives the same bytes.
"""
import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

PRESETS = {  # what the models were trained with
    "deit": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "vit": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
SUFFIXES = {".jpg", ".jpeg", ".png"}


def three(text):
    try:
        values = tuple(float(x) for x in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers separated by commas")
    return values


def positive(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def read_labels(path, files):
    """The label of each file, or None without a labels.csv."""
    if not path.exists():
        return None
    with open(path, newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    if not rows or not {"file", "label"} <= rows[0].keys():
        sys.exit(f"{path}: needs the header file,label and at least one line")
    try:
        labels = {row["file"]: int(row["label"]) for row in rows}
    except (TypeError, ValueError):
        sys.exit(f"{path}: every label must be a whole number")
    missing = [f.name for f in files if f.name not in labels]
    if missing:
        sys.exit(f"{path}: no label for {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}")
    return np.array([labels[f.name] for f in files], dtype=np.int64)


def read_picture(path, size):
    """RGB pixels [size,size,3]; a picture of another size is resized (short side, bicubic) and cropped at its centre."""
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image).convert("RGB")
    except OSError as error:
        sys.exit(f"{path}: cannot be read as a picture: {error}")
    width, height = image.size
    if (width, height) != (size, size):
        scale = size / min(width, height)
        width, height = max(size, round(width * scale)), max(size, round(height * scale))
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image, dtype=np.uint8)


def convert(files, size, mean, std):
    pixels = np.empty((len(files), 3, size, size), dtype=np.float32)
    mean, std = np.array(mean, dtype=np.float32), np.array(std, dtype=np.float32)
    for i, path in enumerate(files):
        picture = read_picture(path, size).astype(np.float32) / np.float32(255)
        pixels[i] = ((picture - mean) / std).transpose(2, 0, 1)
    return pixels


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=Path, help="pictures (*.jpg, *.jpeg, *.png) and, if known, labels.csv")
    p.add_argument("output", type=Path, help="the .npz to write")
    p.add_argument("--input", default="pixel_values", metavar="NAME", help="name of the model's input (default: %(default)s)")
    p.add_argument("--size", type=positive, default=224, metavar="PIXELS", help="height and width the model takes (default: %(default)s)")
    p.add_argument("--limit", type=positive, metavar="N", help="only the first N pictures")
    p.add_argument("--preset", choices=sorted(PRESETS), help="mean and std of a model family: "
                   + "; ".join(f"{name}: mean {mean}, std {std}" for name, (mean, std) in sorted(PRESETS.items())))
    p.add_argument("--mean", type=three, metavar="R,G,B", help="mean of each channel, of pixels in 0..1; overrides the preset's")
    p.add_argument("--std", type=three, metavar="R,G,B", help="standard deviation of each channel; overrides the preset's")
    a = p.parse_args()
    if not a.preset and not (a.mean and a.std):
        p.error("give --preset, or both --mean and --std: a wrong preprocessing calibrates wrong ranges without any error")
    mean, std = PRESETS.get(a.preset, (None, None))
    a.mean, a.std = a.mean or mean, a.std or std
    if min(a.std) <= 0:
        p.error("--std must be positive")
    if a.input == "labels":
        p.error("--input labels: this name is taken by the labels")
    if a.output.suffix != ".npz":
        p.error("the output must end in .npz")
    return a


def main():
    a = arguments()
    if not a.folder.is_dir():
        sys.exit(f"{a.folder}: not a folder")
    files = sorted((f for f in a.folder.iterdir() if f.suffix.lower() in SUFFIXES), key=lambda f: f.name)[:a.limit]
    if not files:
        sys.exit(f"{a.folder}: holds no .jpg, .jpeg or .png files")
    labels = read_labels(a.folder / "labels.csv", files)
    arrays = {a.input: convert(files, a.size, a.mean, a.std)}
    if labels is not None:
        arrays["labels"] = labels
    np.savez(a.output, **arrays)
    print(f"{a.output}: {a.input} float32 {list(arrays[a.input].shape)}, {'with' if labels is not None else 'no'} labels")


if __name__ == "__main__":
    main()
