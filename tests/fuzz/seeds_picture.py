#!/usr/bin/env python3
"""seeds_picture.py FOLDER - small pictures of every kind, the texts beside them and archives of both, for fuzz_picture."""
import io
import pathlib
import sys
import zipfile

import numpy as np
from PIL import Image

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
PICTURE, PREPROCESS, LABELS, ARCHIVE = b"\0", b"\1", b"\2", b"\3"
pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8))
exif = Image.Exif()
exif[0x0112] = 6


def encoded(image, kind, **more):
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


pictures = {
    "rgb.png": encoded(pixels, "PNG"), "grey.png": encoded(pixels.convert("L"), "PNG"), "bit.png": encoded(pixels.convert("1"), "PNG"),
    "palette.png": encoded(pixels.quantize(9), "PNG"), "alpha.png": encoded(pixels.convert("RGBA"), "PNG", exif=exif),
    "rgb.jpg": encoded(pixels, "JPEG", exif=exif), "grey.jpg": encoded(pixels.convert("L"), "JPEG"),
    "progressive.jpg": encoded(pixels, "JPEG", progressive=True), "fine.jpg": encoded(pixels, "JPEG", subsampling=0, restart_marker_blocks=1),
}
for name, data in pictures.items():
    (folder / name).write_bytes(PICTURE + data)
how = b'{"resize": 10, "interpolation": "bilinear", "crop": [8, 9], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "layout": "NHWC", "input": "x"}'
labels = b'file,label\n"rgb.png",3\nrgb.jpg,-1\n'
(folder / "preprocess").write_bytes(PREPROCESS + how)
(folder / "labels").write_bytes(LABELS + labels)
for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as z:
        for name in ("rgb.png", "rgb.jpg"):
            z.writestr(f"set/{name}", pictures[name])
        z.writestr("set/preprocess.json", how)
        z.writestr("set/labels.csv", labels)
    (folder / f"archive-{kind}").write_bytes(ARCHIVE + out.getvalue())
