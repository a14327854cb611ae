"""Attacks by files that no other suite has (tests/attacks.tsv says where the others are)."""
import functools
import hashlib
import json
import resource
import struct
import subprocess
import time
import zipfile

import numpy as np
import onnx
import pytest
from conftest import REPQUANT
from hostile import model, npz, tensor, value, zipped
from onnx import helper
from support import DIGITS, SANITIZED, load, repquant

pytestmark = pytest.mark.skipif(SANITIZED, reason="processor time means nothing under a sanitizer")


def linear(weights):
    """x[n, rows] -> x @ weights[rows, columns]."""
    rows, columns = weights.shape
    return model([helper.make_node("MatMul", ["x", "w"], ["y"], "fc")], [value("x", ["n", rows])], [value("y", ["n", columns])], [tensor("w", weights)])


def timed(*arguments):
    """How the command ended, and the processor time it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run([REPQUANT, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def floats_of(path):
    """All float constants of an artifact."""
    graph = onnx.load(path).graph
    return np.concatenate([onnx.numpy_helper.to_array(t).ravel().astype(np.float64) for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
                          or [np.zeros(1)])


SIZE = 256          # so that the work takes longer than starting the program
NORMAL = np.random.default_rng(3).standard_normal((SIZE, SIZE)).astype(np.float32)
WEIGHTS = {
    "one infinity": np.where(np.arange(NORMAL.size).reshape(NORMAL.shape) == 77, np.float32(np.inf), NORMAL),
    "all NaN": np.full_like(NORMAL, np.nan),
    "all denormal": (NORMAL * np.float32(1e-41)).astype(np.float32),
    "all equal": np.full_like(NORMAL, 0.25),
    "all zero": np.zeros_like(NORMAL),
    "the largest there are": np.where(NORMAL > 0, np.float32(3e38), np.float32(-3e38)),
}
# How a refusal goes on; the report counts no NaN or infinity: a model that has one is refused, by the name of the first channel.
WHY = {"one infinity": "the weight of layer 'fc' holds NaN or infinity in output channel 77;", "all NaN": "the weight of layer 'fc' holds NaN or infinity in output channel 0;"}
MAY_OVERFLOW = {"the largest there are"}
TIMES = 3           # of what normal weights take


def run_with(weights, recipe, folder):
    """How it ended, and the processor time of the quicker of two runs."""
    (folder / "model.onnx").write_bytes(linear(weights))
    np.savez(folder / "calib.npz", x=np.random.default_rng(4).standard_normal((SIZE, SIZE)).astype(np.float32))
    runs = [timed("quantize", folder / "model.onnx", "--calibration", folder / "calib.npz", "--recipe", recipe, "--output", folder / f"out-{n}",
                  "--progress", "none") for n in range(2)]
    return runs[0][0], min(seconds for _, seconds in runs)


@pytest.fixture(scope="module")
def normal_time(tmp_path_factory):
    return functools.cache(lambda recipe: run_with(NORMAL, recipe, tmp_path_factory.mktemp("normal"))[1])


@pytest.mark.parametrize("recipe", ["minmax-w8a8", "percentile-w8a8", "repquant-w4a8"])
@pytest.mark.parametrize("what", WEIGHTS)
def test_weights_that_are_no_weights_end_with_a_reason_or_finite_scales(what, recipe, tmp_path, normal_time):
    ended, seconds = run_with(WEIGHTS[what], recipe, tmp_path)
    if what in WHY:
        assert ended.returncode == 1 and WHY[what] in ended.stderr and "[numeric.nonfinite]" in ended.stderr, ended.stderr
    elif what in MAY_OVERFLOW and ended.returncode:
        assert ended.returncode == 1 and "[numeric.nonfinite]" in ended.stderr, ended.stderr
    else:
        assert ended.returncode == 0, ended.stderr
        told = (tmp_path / "out-0/report.json").read_text()
        assert json.loads(told) and "NaN" not in told and "Infinity" not in told
        assert np.isfinite(floats_of(tmp_path / "out-0/model.onnx")).all()
    for _ in range(5):          # a run takes some hundredths of a second, and whatever else the machine does adds to them
        if seconds > TIMES * normal_time(recipe):
            seconds = min(seconds, run_with(WEIGHTS[what], recipe, tmp_path)[1])
    assert seconds <= TIMES * normal_time(recipe), (seconds, normal_time(recipe))


def test_one_sample_is_enough_and_none_is_refused(tmp_path):
    pictures = load(DIGITS / "calib.npz")["pixel_values"]
    np.savez(tmp_path / "one.npz", pixel_values=pictures[:1])
    repquant("quantize", DIGITS / "model.onnx", "--calibration", tmp_path / "one.npz", "--recipe", "repquant-w8a8", "--output", tmp_path / "out",
             "--progress", "none")
    assert np.isfinite(floats_of(tmp_path / "out/model.onnx")).all()


def safetensors(header, data=b""):
    return struct.pack("<Q", len(header)) + header + data


# Keys that collide cannot be made: jansson's hash has a seed of the process.
HEADERS = {
    "100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "100,000 lists deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "50,000 alike keys": b"{" + b",".join(b'"%s":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % (b"k" * 200 + b"%05d" % i) for i in range(50_000)) + b"}",
    "200,000 tensors": b"{" + b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(200_000)) + b"}",
    "a key twice": b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}',
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_header_that_costs_more_than_it_is_worth_is_refused_soon(what, tmp_path):
    (tmp_path / "data.safetensors").write_bytes(safetensors(HEADERS[what]))
    ended, seconds = timed("quantize", DIGITS / "model.onnx", "--calibration", tmp_path / "data.safetensors", "--recipe", "minmax-w8a8",
                           "--output", tmp_path / "out", "--progress", "none")
    assert ended.returncode == 1 and "[dataset." in ended.stderr, ended.stderr
    assert seconds < 1


def test_a_file_of_two_kinds_is_what_it_was_sent_as(make_daemon):
    """A zip behind a model, a model in front of a page: as a model they are read to their end, as data they are no archive from the first byte."""
    d = make_daemon(program=REPQUANT)
    good = (DIGITS / "model.onnx").read_bytes()
    for tail in (zipped(**{"x.npy": b"y"}), b"<html><script>alert(1)</script></html>", npz(pixel_values=np.zeros((1, 1, 8, 8), np.float32))):
        refused = d("PUT", "/v1/models?name=two", data=good + tail)
        assert refused.status_code == 422 and refused.json()["code"].startswith("model."), refused.text
        refused = d("PUT", "/v1/datasets?name=two", data=good + tail)
        assert refused.status_code == 422 and refused.json()["code"].startswith("dataset."), refused.text
    page = b"<html><script>alert(1)</script></html>"
    digest = d("PUT", "/v1/blobs/sha256:" + hashlib.sha256(page).hexdigest(), data=page).json()["digest"]
    got = d("GET", f"/v1/blobs/{digest}")
    assert got.headers["Content-Type"] == "application/octet-stream" and got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["Content-Disposition"].startswith("attachment")


NAMES = ["\u202egnp.exe", "<img src=x onerror=alert(1)>", "a\tb", "\x1b[31mred", "'; DROP TABLE jobs;--", "x" * 4000]


def test_names_of_all_kinds_are_taken_or_refused_by_rule_and_reported_as_they_are(make_daemon):
    d = make_daemon(program=REPQUANT)
    for name in NAMES:
        m = onnx.load_from_string(linear(NORMAL))
        m.graph.node[0].name = name
        answer = d("PUT", "/v1/models?name=n", data=m.SerializeToString())
        assert answer.status_code in (201, 422), (name, answer.text)
        if answer.status_code == 422:
            assert answer.json()["code"].startswith("model."), answer.text
    log = d.log.read_bytes()
    assert b"\x1b" not in log and all(byte >= 0x20 or byte == 0x0a for byte in log)


def test_time_is_bounded_for_a_shape_of_many_paths(tmp_path):
    """2^20 paths through diamonds of two branches each."""
    nodes, last = [], "x"
    for i in range(20):
        nodes += [helper.make_node("Relu", [last], [f"a{i}"]), helper.make_node("Neg", [last], [f"b{i}"]), helper.make_node("Add", [f"a{i}", f"b{i}"], [f"c{i}"])]
        last = f"c{i}"
    (tmp_path / "m.onnx").write_bytes(model(nodes + [helper.make_node("Identity", [last], ["y"])], [value("x", [4])], [value("y", [4])]))
    began = time.process_time()
    ended, seconds = timed("inspect", tmp_path / "m.onnx", "--json")
    assert ended.returncode == 0 and seconds < 2 and time.process_time() - began < 2


@pytest.mark.parametrize("name", ["pixel_values.npy", "000.jpg", "../../etc/cron.d/x", "/etc/passwd"])
def test_a_link_in_an_archive_leads_nowhere(name, tmp_path):
    """A member with the mode of a symbolic link is refused by its name: what it leads to is not read, and its own few bytes are not taken for it."""
    link = zipfile.ZipInfo(name)
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as z:
        z.writestr(link, "/etc/passwd")
        if name.endswith(".jpg"):
            z.writestr("preprocess.json", '{"resize": 8, "crop": 8, "mean": [0], "std": [1], "layout": "NCHW"}')
    before = set(tmp_path.iterdir())
    ended, _ = timed("evaluate", DIGITS / "model.onnx", "--data", tmp_path / "data.zip")
    assert ended.returncode == 1 and "[dataset.format]" in ended.stderr and "root:" not in ended.stderr, ended.stderr
    if name.startswith(("/", "..")):
        assert "name" in ended.stderr, ended.stderr         # which alone is enough
    else:
        assert name in ended.stderr and "is a link or a device, not a file" in ended.stderr, ended.stderr
    assert set(tmp_path.iterdir()) == before
