"""tests/tools/images_to_npz.py: the arrays are what the model's authors would compute, in a fixed order."""
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TOOL = Path(__file__).parents[1] / "tools" / "images_to_npz.py"
PLAIN = ("--mean", "0,0,0", "--std", "1,1,1", "--size", "8")


def run(*args):
    return subprocess.run([sys.executable, str(TOOL), *map(str, args)], capture_output=True, text=True)


def made(folder, *args):
    out = folder / "out.npz"
    done = run(folder, out, *args)
    assert done.returncode == 0, done.stderr
    return np.load(out)


@pytest.fixture
def folder(tmp_path):
    """Three pictures of 8x8, named against the order in which they are made."""
    rng = np.random.default_rng(0)
    for name in ("b.png", "c.PNG", "a.png"):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / name, format="PNG")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_a_picture_of_the_right_size_is_taken_as_it_is(folder):
    x = made(folder, *PLAIN)["pixel_values"]
    assert x.shape == (3, 3, 8, 8) and x.dtype == np.float32
    for i, name in enumerate(("a.png", "b.png", "c.PNG")):
        want = np.asarray(Image.open(folder / name), dtype=np.float32) / 255
        assert np.array_equal(x[i], want.transpose(2, 0, 1))


@pytest.mark.parametrize("preset, mean, std", [("deit", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ("vit", (0.5,) * 3, (0.5,) * 3)])
def test_a_preset_is_the_mean_and_std_of_its_models(folder, preset, mean, std):
    plain = made(folder, *PLAIN)["pixel_values"].astype(np.float64)
    x = made(folder, "--preset", preset, "--size", 8)["pixel_values"]
    want = (plain - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    assert np.abs(x - want).max() < 1e-6


def test_the_same_folder_gives_the_same_bytes(folder):
    made(folder, *PLAIN)
    first = (folder / "out.npz").read_bytes()
    made(folder, *PLAIN)
    assert (folder / "out.npz").read_bytes() == first


def test_labels_follow_the_pictures(folder):
    (folder / "labels.csv").write_text("file,label\nc.PNG,30\na.png,10\nb.png,20\nother.png,5\n")
    z = made(folder, *PLAIN, "--input", "image")
    assert z["labels"].dtype == np.int64 and list(z["labels"]) == [10, 20, 30]
    assert sorted(z.files) == ["image", "labels"]
    assert list(made(folder, *PLAIN, "--limit", 2)["labels"]) == [10, 20]


def test_another_size_is_resized_by_its_short_side_and_cropped_at_its_centre(folder):
    for name in ("a.png", "b.png", "c.PNG"):
        (folder / name).unlink()
    wide = np.zeros((20, 60, 3), dtype=np.uint8)
    wide[:, 20:40] = (255, 128, 0)     # the centre square; the rest is cut off
    Image.fromarray(wide).save(folder / "wide.png")
    x = made(folder, *PLAIN)["pixel_values"][0]
    middle = x[:, :, 2:6]
    assert np.abs(middle - np.array([1, 128 / 255, 0], dtype=np.float32).reshape(3, 1, 1)).max() < 0.02


def test_grey_and_transparent_pictures_become_rgb(folder):
    Image.fromarray(np.full((8, 8), 51, dtype=np.uint8)).save(folder / "a.png")
    x = made(folder, *PLAIN)["pixel_values"][0]
    assert np.allclose(x, 0.2)


@pytest.mark.parametrize("args, says", [
    ((), "--preset"),
    (("--mean", "0,0,0"), "--preset"),
    (("--mean", "0,0", "--std", "1,1,1"), "three numbers"),
    (("--mean", "0,0,0", "--std", "1,0,1"), "positive"),
    (("--preset", "vit", "--limit", "0"), "positive"),
    (("--preset", "vit", "--input", "labels"), "labels"),
])
def test_a_wrong_option_is_explained(folder, args, says):
    done = run(folder, folder / "out.npz", *args)
    assert done.returncode == 2 and says in done.stderr and not (folder / "out.npz").exists()


@pytest.mark.parametrize("csv, says", [
    ("file,label\na.png,1\n", "no label for b.png, c.PNG"),
    ("name,class\na.png,1\n", "file,label"),
    ("file,label\na.png,cat\nb.png,1\nc.PNG,1\n", "whole number"),
])
def test_wrong_labels_are_explained(folder, csv, says):
    (folder / "labels.csv").write_text(csv)
    done = run(folder, folder / "out.npz", *PLAIN)
    assert done.returncode == 1 and says in done.stderr and not (folder / "out.npz").exists()


def test_a_broken_picture_is_named(folder):
    (folder / "b.png").write_bytes(b"not a picture")
    done = run(folder, folder / "out.npz", *PLAIN)
    assert done.returncode == 1 and "b.png" in done.stderr
