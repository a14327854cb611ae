"""Memory stays where it is however much data comes: arrays are read in pieces, held activations keep to their budget."""
import concurrent.futures
import json
import os
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
from conftest import REPQUANT, ROOT, until
from onnx import TensorProto, helper
from support import DIGITS, SANITIZED, load

MIB = 1 << 20


def peak(*arguments):
    """Bytes that a command held at most."""
    out = subprocess.run([sys.executable, ROOT / "tests" / "tools" / "run_many.py", REPQUANT, *map(str, arguments)],
                         input="-\n", capture_output=True, text=True, check=True).stdout
    told = json.loads(out)
    assert told["status"] == 0, told["err"]
    return told["peak_kib"] * 1024


def sums(path):
    """A model that adds up each sample."""
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1, noop_with_empty_axes=0, axes=[1])]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", d]) for n, d in (("x", 4096), ("y", 1)))
    onnx.save(helper.make_model(helper.make_graph(nodes, "sums", [x], [y]), opset_imports=[helper.make_opsetid("", 12)], ir_version=7), path)


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory is not the program's")
@pytest.mark.parametrize("save, dtype", [(np.savez, "float32"), (np.savez_compressed, "float32"), (np.savez, "float64"), (np.savez, "float16")])
def test_data_of_any_size_is_read_in_pieces(save, dtype, tmp_path):
    sums(tmp_path / "sums.onnx")
    # Some noise: what packs too well is refused.
    many = np.random.default_rng(0).integers(0, 2, (8192, 4096)).astype(dtype)
    few = many[:64]
    assert many.nbytes >= 64 * MIB
    save(tmp_path / "few.npz", x=few)
    save(tmp_path / "many.npz", x=many)
    little, much = (peak("run", tmp_path / "sums.onnx", "--inputs", tmp_path / f"{n}.npz", "--outputs", tmp_path / f"y-{n}.npz")
                    for n in ("few", "many"))
    with np.load(tmp_path / "y-many.npz") as f:
        assert (f["y"][:, 0] == many.sum(axis=1, dtype=np.float64)).all()
    assert much - little < 24 * MIB                                # large folios: a touched page may bring megabytes with it


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory is not the program's")
def test_held_activations_keep_to_their_budget(tmp_path):
    calib = load(DIGITS / "calib.npz")
    (name,) = (n for n in calib if n != "labels")
    peaks = []
    for times in (2, 8):
        np.savez(tmp_path / "calib.npz", **{name: np.tile(calib[name], (times, 1, 1, 1))})
        peaks.append(peak("quantize", DIGITS / "model.onnx", "--calibration", tmp_path / "calib.npz", "--recipe", "repquant-w4a4",
                          "--output", tmp_path / str(times), "--memory", "4M", "--progress", "none"))
    held = json.loads((tmp_path / "8" / "report.json").read_text())["summary"]
    assert held["peak_held_bytes"] <= 4 * MIB and held["spilled_bytes"] > 16 * MIB
    assert peaks[1] - peaks[0] < 8 * MIB


def heaps(pid):
    """How many heaps malloc has besides the first: each is 64 MiB of addresses that begin at a multiple of that, of which a part is in use."""
    found, last = 0, None
    for line in open(f"/proc/{pid}/maps"):
        begin, end, rights = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line).groups()
        begin, end = int(begin, 16), int(end, 16)
        if rights == "---p" and last and last[1] == begin and last[0] % (64 * MIB) == 0 and end - last[0] == 64 * MIB:
            found += 1
        last = (begin, end) if rights == "rw-p" else None
    return found


@pytest.mark.skipif(SANITIZED, reason="a sanitizer has a malloc of its own")
@pytest.mark.skipif(os.geteuid() != 0, reason="the kernel shows the memory of a process with secrets to root alone")
def test_the_daemons_threads_share_a_heap_for_each_processor(make_daemon):
    """Each heap keeps the most that was ever in use of it at once: one for each of fifty threads is ten times that."""
    daemon = make_daemon(workers=4, rate=0)
    body = daemon.inputs("layer 50; result model.onnx MODEL")

    def work(n):
        job = daemon("POST", "/v1/jobs", json=body).json()
        daemon("PUT", f"/v1/models?name={n}", data=f"#quantize {n}\n".encode() + b"x" * 100_000)
        return daemon.ended(job["id"], 60)["state"]
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        assert set(pool.map(work, range(48))) == {"succeeded"}
    assert heaps(daemon.process.pid) < max(2, os.cpu_count())


@pytest.mark.skipif(SANITIZED, reason="a sanitizer has a malloc of its own")
def test_what_a_burst_of_requests_took_is_given_back(make_daemon):
    """Long lists, read side by side with jobs whose rows, events and answers stay."""
    daemon = make_daemon(workers=2, rate=0)
    body = daemon.inputs("layer 50; result model.onnx MODEL")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: daemon("POST", "/v1/jobs", json={**body, "labels": {"a": "x" * 60, "n": str(n)}}), range(400)))
        list(pool.map(lambda n: daemon("PUT", "/v1/blobs/sha256:" + "0" * 64, data=b"x"), range(600)))
        before = daemon.memory()

        def work(n):
            paths = ["/v1/audit?limit=5000", "/v1/jobs?limit=200"]
            if n % 3 == 0:
                return daemon("POST", "/v1/jobs", json=body).status_code
            return daemon("GET", paths[n % 2]).status_code
        assert set(pool.map(work, range(200))) <= {200, 202, 503}
    until(lambda: daemon.memory() < before + 5 * MIB, 30, "memory given back")


@pytest.mark.skipif(SANITIZED, reason="a sanitizer has a malloc of its own")
@pytest.mark.skipif(os.geteuid() != 0, reason="the kernel shows the memory of a process with secrets to root alone")
def test_large_answers_are_made_a_few_at_a_time(make_daemon):
    """While one is made it takes several times its bytes: for as many as there are workers for reads that is another matter than for three."""
    daemon = make_daemon(rate=0)
    job = daemon.job("layer 3000; result model.onnx MODEL")
    assert (ended := daemon.ended(job["id"], 120))["state"] == "succeeded", ended["problem"]

    def most(readers):
        """How much more the daemon held than before, at most, and the length of an answer."""
        with open(f"/proc/{daemon.process.pid}/clear_refs", "w") as f:
            f.write("5")                # VmHWM begins anew
        before = daemon.memory()
        with concurrent.futures.ThreadPoolExecutor(readers) as pool:
            answers = list(pool.map(lambda _: daemon("GET", job["urls"]["layers"], timeout=120), range(readers)))
        assert {a.status_code for a in answers} == {200} and len({a.content for a in answers}) == 1
        return daemon.memory("VmHWM") - before, len(answers[0].content)

    one, length = most(1)
    many, _ = most(16)
    print(f"one: {one / MIB:.1f} MiB, 16: {many / MIB:.1f} MiB, an answer: {length / MIB:.1f} MiB")
    assert one > 3 * length, "else this shows nothing"
    assert many < 4 * one + 16 * length
