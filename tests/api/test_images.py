"""Pictures as data sets: the numbers are those of Pillow and NumPy, to the bit; hostile archives are refused; the daemon shows previews."""
import base64
import io
import json
import zipfile

import numpy as np
import pytest
from conftest import REPQUANT
from PIL import Image, ImageOps
from support import SANITIZED, load, repquant

HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def reference(image, how):
    """What core/data/preprocess.h documents, in Pillow and NumPy."""
    image = ImageOps.exif_transpose(image).convert("RGB")
    resize, crop = how.get("resize"), how.get("crop")
    if isinstance(resize, int):
        w, h = image.size
        size = (resize, h * resize // w) if w <= h else (w * resize // h, resize)
    elif resize:
        size = (resize[1], resize[0])
    else:
        size = image.size
    method = FILTERS[how.get("interpolation", "bicubic")]
    if isinstance(resize, list):
        image = image.resize((size[0], image.height), method)      # rows first, whatever this release of Pillow prefers
    image = image.resize(size, method)
    if crop:
        h, w = (crop, crop) if isinstance(crop, int) else crop
        left, top = (image.width - w) // 2, (image.height - h) // 2
        image = image.crop((left, top, left + w, top + h))
    x = np.asarray(image, dtype=np.float32) / np.float32(255)
    x = (x - np.array(how["mean"], np.float32)) / np.array(how["std"], np.float32)
    return x if how.get("layout") == "NHWC" else x.transpose(2, 0, 1)


def picture(width, height, mode="RGB", seed=0):
    """Smooth shapes with noise, so that every filter has something to do."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 90 * np.sin(x / (7 + c) + y / (11 - c)) + rng.normal(0, 20, (height, width)) for c in range(3)]
    image = Image.fromarray(np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8))
    return image.convert(mode)


def encoded(image, kind, **more):
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def archive(path, files, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as z:
        for name, data in files.items():
            z.writestr(name, json.dumps(data) if isinstance(data, dict) else data)
    return path


# A model that hands its pictures through shows what it was given.
@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    import onnx
    from onnx import TensorProto, helper
    folder = tmp_path_factory.mktemp("mirror")
    shape = ["N", None, None, None]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["p"]), helper.make_node("Neg", ["x"], ["n0"]), helper.make_node("Relu", ["n0"], ["n"]),
                               helper.make_node("Sub", ["p", "n"], ["y"])], "mirror",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "mirror.onnx")
    return folder / "mirror.onnx"


def seen(mirror, data, folder):
    repquant("run", mirror, "--inputs", data, "--outputs", folder / "out.npz")
    return load(folder / "out.npz")["y"]


@pytest.mark.parametrize("how", [
    {**IMAGENET, "resize": 64, "crop": 56}, {**HALF, "resize": 40, "crop": 40, "interpolation": "bilinear"},
    {**HALF, "resize": [48, 80]}, {**IMAGENET, "resize": 97, "crop": [33, 64], "layout": "NHWC"},
    {**HALF, "resize": 200, "crop": 192, "interpolation": "bilinear"}, {**HALF, "crop": 30},
], ids=str)
def test_the_numbers_are_pillows_to_the_bit(mirror, tmp_path, how):
    images = [picture(120, 90, seed=1), picture(75, 131, seed=2), picture(64, 64, seed=3), picture(333, 41, seed=4)]
    files = {f"{i}.png": encoded(x, "PNG") for i, x in enumerate(images)}
    data = archive(tmp_path / "data.zip", {**files, "preprocess.json": how}, zipfile.ZIP_DEFLATED)
    got = seen(mirror, data, tmp_path)
    want = np.stack([reference(Image.open(io.BytesIO(files[f"{i}.png"])), how) for i in range(len(images))])
    assert got.shape == want.shape and np.array_equal(got, want)


def test_every_kind_of_file_is_decoded(mirror, tmp_path):
    """JPEG may differ by one step of 255 between two releases of libjpeg-turbo; PNG not at all."""
    rgb, exact = picture(61, 47), {}
    exact["a-rgb.png"] = encoded(rgb, "PNG")
    exact["b-grey.png"] = encoded(rgb.convert("L"), "PNG")
    exact["c-palette.png"] = encoded(rgb.quantize(17), "PNG")
    exact["d-alpha.png"] = encoded(rgb.convert("RGBA"), "PNG")
    exact["e-bit.PNG"] = encoded(rgb.convert("1"), "PNG")
    exact["f-interlaced.png"] = encoded(rgb, "PNG", interlace=1)
    exact["g-alpha-grey.png"] = encoded(rgb.convert("LA"), "PNG")
    lossy = {}
    for sampling in (0, 1, 2):
        lossy[f"h-{sampling}.jpg"] = encoded(rgb, "JPEG", subsampling=sampling, quality=80)
    lossy["i-progressive.jpeg"] = encoded(rgb, "JPEG", progressive=True)
    lossy["j-grey.JPG"] = encoded(rgb.convert("L"), "JPEG")
    how = {**HALF, "resize": 32, "crop": 32}
    files = {**exact, **lossy}
    got = seen(mirror, archive(tmp_path / "d.zip", {**files, "preprocess.json": how}), tmp_path)
    for i, name in enumerate(sorted(files)):
        want = reference(Image.open(io.BytesIO(files[name])), how)
        far = np.abs(got[i] - want).max() * 0.5 * 255
        assert far <= (0 if name in exact else 1.001), f"{name}: {far}"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(mirror, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    files = {"a.jpg": encoded(picture(40, 24), "JPEG", exif=exif, quality=95, subsampling=0), "b.png": encoded(picture(40, 24), "PNG", exif=exif)}
    for name, data in files.items():
        got = seen(mirror, archive(tmp_path / "d.zip", {name: data, "preprocess.json": HALF}), tmp_path)
        want = reference(Image.open(io.BytesIO(data)), HALF)
        assert got[0].shape == want.shape and np.abs(got[0] - want).max() * 0.5 * 255 <= 1.001


def test_a_folder_and_its_zip_are_the_same_data(mirror, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    files = {"b.png": encoded(picture(30, 30, seed=1), "PNG"), "a.jpg": encoded(picture(30, 30, seed=2), "JPEG")}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "preprocess.json").write_text(json.dumps(HALF))
    (folder / "labels.csv").write_text('label,file\n7,"b.png"\r\n3,a.jpg\n')
    (folder / "notes.txt").write_text("passed over")
    nested = {f"set/{p.name}": p.read_bytes() for p in folder.iterdir()}
    nested["__MACOSX/set/._a.jpg"] = b"resource fork"
    first, second = seen(mirror, folder, tmp_path), seen(mirror, archive(tmp_path / "d.zip", nested), tmp_path)
    assert first.shape == (2, 3, 30, 30) and np.array_equal(first, second)
    assert np.array_equal(first[1], reference(Image.open(folder / "b.png"), HALF))


GOOD = encoded(picture(20, 20), "PNG")


def bomb():
    """A PNG of 16,000 x 2,000 black pixels: 96 MB of them from 93 KB."""
    return encoded(Image.new("RGB", (16000, 2000)), "PNG")


@pytest.mark.parametrize("files, code, says", [
    ({"a.png": GOOD}, 1, "preprocess.json"),
    ({"preprocess.json": HALF}, 1, "there are no .jpg"),
    ({"a.png": GOOD, "preprocess.json": b"{"}, 1, "preprocess.json"),
    ({"a.png": GOOD, "preprocess.json": {"mean": [0, 0, 0]}}, 1, "preprocess.json/std"),
    ({"a.png": GOOD, "preprocess.json": {"mean": [0, 0], "std": [1, 1, 1]}}, 1, "preprocess.json/mean"),
    ({"a.png": GOOD, "preprocess.json": {"mean": [0, 0, 0], "std": [1, 0, 1]}}, 1, "preprocess.json/std"),
    ({"a.png": GOOD, "preprocess.json": {**HALF, "resize": 0}}, 1, "preprocess.json/resize"),
    ({"a.png": GOOD, "preprocess.json": {**HALF, "interpolation": "nearest"}}, 1, "bicubic"),
    ({"a.png": GOOD, "preprocess.json": {**HALF, "size": 3}}, 1, "preprocess.json/size"),
    ({"a.png": GOOD, "preprocess.json": {**HALF, "crop": 30}}, 1, "a.png: the picture has 20 x 20"),
    ({"a.png": GOOD, "b.png": encoded(picture(21, 20), "PNG"), "preprocess.json": HALF}, 1, "crop"),
    ({"a.png": GOOD[:-30], "preprocess.json": HALF}, 1, "a.png"),
    ({"a.jpg": encoded(picture(40, 40), "JPEG")[:-40], "preprocess.json": HALF}, 1, "a.jpg"),
    ({"a.jpg": encoded(picture(40, 40, "CMYK"), "JPEG"), "preprocess.json": HALF}, 1, "CMYK"),
    ({"a.png": b"GIF89a", "preprocess.json": HALF}, 1, "no JPEG and no PNG"),
    ({"a.png": GOOD, "preprocess.json": HALF, "labels.csv": "file,label\nb.png,1\n"}, 1, "no label for a.png"),
    ({"a.png": GOOD, "preprocess.json": HALF, "labels.csv": "name,class\na.png,1\n"}, 1, "file,label"),
    ({"a.png": GOOD, "preprocess.json": HALF, "labels.csv": "file,label\na.png,cat\n"}, 1, "labels.csv:2"),
    ({"a.png": GOOD, "preprocess.json": HALF, "labels.csv": "file,label\na.png,1\na.png,2\n"}, 1, "two lines"),
    ({"../a.png": GOOD, "preprocess.json": HALF}, 1, "looks like a path"),
], ids=lambda x: "" if isinstance(x, (dict, int)) else x)
def test_what_cannot_be_used_is_explained(mirror, tmp_path, files, code, says):
    data = archive(tmp_path / "d.zip", files)
    ended = repquant("run", mirror, "--inputs", data, "--outputs", tmp_path / "o.npz", status=None)
    assert ended.returncode == code and says in ended.stderr, ended.stderr


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory is not the program's")
def test_a_bomb_costs_little(mirror, tmp_path):
    """Refused by its dimensions where they are too large; where they are not, it is one picture of bounded size."""
    import resource
    import subprocess
    big = bytearray(bomb())
    big[16:24] = (2**31 - 1).to_bytes(4, "big") * 2
    import zlib
    big[29:33] = zlib.crc32(bytes(big[12:29])).to_bytes(4, "big")
    for name, data, says in (("huge.png", bytes(big), "huge.png"), ("fits.png", bomb(), None)):
        made = archive(tmp_path / "d.zip", {name: data, "preprocess.json": {**HALF, "resize": [8, 8]}})
        limit = (1 << 30, 1 << 30)
        ended = subprocess.run([REPQUANT, "run", str(mirror), "--inputs", str(made), "--outputs", str(tmp_path / "o.npz"), "--threads", "1"], capture_output=True,
                               text=True, timeout=60, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit))
        assert (ended.returncode == 0) if says is None else (ended.returncode == 1 and says in ended.stderr), ended.stderr


# ---- through the daemon ----

@pytest.fixture
def real(make_daemon):
    return make_daemon(program=REPQUANT)


def test_a_zip_of_pictures_is_a_data_set_with_previews(real, mirror, tmp_path):
    files = {f"{i:02}.png": encoded(picture(50, 40, seed=i), "PNG") for i in range(12)}
    made = archive(tmp_path / "d.zip", {**files, "preprocess.json": {**HALF, "resize": 36, "crop": 32},
                                        "labels.csv": "file,label\n" + "".join(f"{n},{i}\n" for i, n in enumerate(files))})
    answer = real("PUT", "/v1/datasets?name=pictures&format=images", data=made.read_bytes())
    assert answer.status_code == 201, answer.text
    inventory = answer.json()["inventory"]
    assert inventory["format"] == "images" and inventory["samples"] == 12 and inventory["has_labels"]
    array = inventory["arrays"][0]
    assert array["name"] == "pixel_values" and array["shape"] == [12, 3, 32, 32] and array["nan_count"] == 0 and -1 <= array["min"] < array["max"] <= 1
    assert [p["file"] for p in inventory["previews"]] == sorted(files)[:8]
    shown = Image.open(io.BytesIO(base64.b64decode(inventory["previews"][0]["png"])))
    want = reference(Image.open(io.BytesIO(files["00.png"])), {"mean": [0] * 3, "std": [1] * 3, "resize": 36, "crop": 32})
    assert np.array_equal(np.asarray(shown), np.round(want.transpose(1, 2, 0) * 255).astype(np.uint8))


def test_a_model_is_quantized_and_judged_on_pictures(tmp_path):
    """The whole way on the command line: a folder for calibration, a zip for evaluation."""
    from onnx import TensorProto, helper, numpy_helper
    import onnx
    rng = np.random.default_rng(0)
    flat = 3 * 8 * 8
    w = [rng.normal(0, 0.1, s).astype(np.float32) for s in ((flat, 32), (32, 10))]
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w0"], ["h"]), helper.make_node("Relu", ["h"], ["r"]),
             helper.make_node("MatMul", ["r", "w1"], ["y"])]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
                              [numpy_helper.from_array(x, f"w{i}") for i, x in enumerate(w)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    how = {**HALF, "resize": 8, "crop": 8, "input": "x"}
    folder = tmp_path / "calib"
    folder.mkdir()
    files = {f"{i:03}.jpg": encoded(picture(20, 20, seed=i), "JPEG") for i in range(40)}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "preprocess.json").write_text(json.dumps(how))
    labels = "file,label\n" + "".join(f"{n},{i % 10}\n" for i, n in enumerate(files))
    made = archive(tmp_path / "eval.zip", {**files, "preprocess.json": how, "labels.csv": labels})
    repquant("quantize", tmp_path / "m.onnx", "--calibration", folder, "--evaluation", made, "--recipe", "minmax-w8a8", "--output", tmp_path / "out", "--progress", "none")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["summary"]["quantized_layers"] == 2 and report["evaluation"] is not None
    (folder / "000.jpg").unlink()
    (folder / "000.jpg").symlink_to("/etc/passwd")
    ended = repquant("evaluate", tmp_path / "m.onnx", "--data", folder, status=None)
    assert ended.returncode != 0 and "000.jpg" in ended.stderr
