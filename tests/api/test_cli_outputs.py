"""Where `repquant` writes: never over what it reads, nor in the place of what is no file, and into folders that it makes."""
import os
import shutil
import subprocess

import numpy as np
import onnx
import pytest
from conftest import REPQUANT
from support import DIGITS, digest_of, repquant

RECIPE = ("--recipe", "minmax-w8a8", "--progress", "none")


@pytest.fixture
def desk(tmp_path):
    for name in ("model.onnx", "calib.npz", "eval.npz"):
        shutil.copyfile(DIGITS / name, tmp_path / name)
    return tmp_path


def bytes_of(folder):
    return {p.name: digest_of(p.read_bytes()) for p in folder.iterdir() if p.is_file()}


def refused(*arguments, says):
    ended = repquant(*arguments, status=None)
    assert ended.returncode == 2 and "request.invalid" in ended.stderr, ended.stderr
    for words in says:
        assert words in ended.stderr


def with_external_data(desk):
    """float.onnx with weights named as a result is."""
    model = onnx.load(desk / "model.onnx")
    onnx.save_model(model, desk / "float.onnx", save_as_external_data=True, location="report.json", size_threshold=64)
    (desk / "model.onnx").unlink()
    return desk / "float.onnx"


@pytest.mark.parametrize("through", ["the same path", "another name"])
def test_a_model_is_not_quantized_over_itself(desk, through):
    folder = desk
    if through == "another name":
        folder = desk / "link"
        folder.symlink_to(desk)
    before = bytes_of(desk)
    refused("quantize", desk / "model.onnx", "--calibration", desk / "calib.npz", *RECIPE, "--output", folder, says=[f"{folder}/model.onnx", "input", "another place"])
    assert bytes_of(desk) == before


def test_nor_over_its_external_data(desk):
    model = with_external_data(desk)
    before = bytes_of(desk)
    refused("quantize", model, "--calibration", desk / "calib.npz", *RECIPE, "--output", desk, says=["report.json", "input"])
    assert bytes_of(desk) == before


@pytest.mark.parametrize("option", ["--calibration", "--evaluation"])
def test_nor_over_its_data(desk, option):
    (desk / "eval.npz").rename(desk / "report.json")
    more = [] if option == "--calibration" else ["--calibration", desk / "calib.npz"]
    (desk / "model.onnx").rename(desk / "float.onnx")
    before = bytes_of(desk)
    refused("quantize", desk / "float.onnx", option, desk / "report.json", *more, *RECIPE, "--output", desk, says=["report.json"])
    assert bytes_of(desk) == before


def test_nor_over_its_recipe(desk):
    (desk / "model.onnx").rename(desk / "float.onnx")
    (desk / "report.json").write_text('{"preset": "minmax-w8a8"}')
    before = bytes_of(desk)
    refused("quantize", desk / "float.onnx", "--calibration", desk / "calib.npz", "--recipe", desk / "report.json", "--output", desk, says=["report.json", "input"])
    assert bytes_of(desk) == before


def test_results_replace_those_of_the_run_before_and_are_no_part_of_the_model(desk):
    """Beside a model with external data lie the results of the first run, which the second one may replace and does not take for weights."""
    model = with_external_data(desk)
    (desk / "report.json").rename(desk / "weights.bin")
    onnx_model = onnx.load(model, load_external_data=False)
    for tensor in onnx_model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "weights.bin"
    onnx.save_model(onnx_model, model)
    words = ["quantize", model, "--calibration", desk / "calib.npz", *RECIPE, "--output", desk]
    repquant(*words)
    first = (desk / "model.onnx").read_bytes()
    repquant(*words)
    assert (desk / "model.onnx").read_bytes() == first


@pytest.mark.parametrize("what", ["fifo", "folder"])
def test_what_is_no_file_keeps_its_place(desk, what):
    out = desk / "out"
    out.mkdir()
    os.mkfifo(out / "manifest.json") if what == "fifo" else (out / "manifest.json").mkdir()
    refused("quantize", desk / "model.onnx", "--calibration", desk / "calib.npz", *RECIPE, "--output", out, says=["manifest.json", "no regular file"])
    assert [p.name for p in out.iterdir()] == ["manifest.json"] and not (out / "manifest.json").is_file()


def test_outputs_of_a_run_replace_no_input_and_nothing_but_files(desk):
    np.savez(desk / "in.npz", **{k: v for k, v in np.load(desk / "eval.npz").items() if k != "labels"})
    os.link(desk / "in.npz", desk / "same.npz")
    os.mkfifo(desk / "pipe")
    before = bytes_of(desk)
    for outputs, says in (("in.npz", "input"), ("same.npz", "input"), ("model.onnx", "input"), ("pipe", "no regular file")):
        refused("run", desk / "model.onnx", "--inputs", desk / "in.npz", "--outputs", desk / outputs, says=[outputs, says])
    assert bytes_of(desk) == before and (desk / "pipe").is_fifo()
    repquant("run", desk / "model.onnx", "--inputs", desk / "in.npz", "--outputs", desk / "out.npz")
    repquant("run", desk / "model.onnx", "--inputs", desk / "in.npz", "--outputs", desk / "out.npz")


def test_folders_are_made_with_those_above_them(desk):
    repquant("quantize", desk / "model.onnx", "--calibration", desk / "calib.npz", *RECIPE, "--output", desk / "a" / "b" / "c")
    assert sorted(p.name for p in (desk / "a/b/c").iterdir()) == ["details.json", "manifest.json", "model.onnx", "report.json"]
    ended = repquant("quantize", desk / "model.onnx", "--calibration", desk / "calib.npz", *RECIPE, "--output", desk / "calib.npz" / "a", status=None)
    assert ended.returncode == 1 and "calib.npz/a" in ended.stderr


def into_a_pipe_that_nobody_reads(program, *words, **more):
    """As on a full disk: what lies in a buffer when the command has done its work cannot be written."""
    ours, theirs = os.pipe()
    os.close(ours)
    ended = subprocess.run([program, *map(str, words)], stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=60, **more)
    os.close(theirs)
    return ended


@pytest.mark.parametrize("words", [["inspect", "MODEL"], ["inspect", "MODEL", "--json"], ["recipes"], ["recipes", "repquant-w8a8"], ["recipes", "--schema"],
                                   ["evaluate", "MODEL", "--data", "EVAL"], ["evaluate", "MODEL", "--data", "EVAL", "--json"], ["--help"], ["--version"],
                                   ["inspect", "--help"]])
def test_what_cannot_be_printed_is_a_failure(words):
    ended = into_a_pipe_that_nobody_reads(REPQUANT, *[{"MODEL": DIGITS / "model.onnx", "EVAL": DIGITS / "eval.npz"}.get(w, w) for w in words])
    assert ended.returncode == 3 and "standard output" in ended.stderr
