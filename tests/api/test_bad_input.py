"""Whatever a stranger sends is refused with a reason, or taken; nothing crashes, nothing is left behind, and the service goes on.

The files are made by hostile.py.  A refusal has exit code 1 and one line: what is wrong, where, what to do, and a stable code.
"""
import contextlib
import functools
import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPQUANT, ROOT, Daemon, until
from hostile import bad_arrays, damaged, lies, model, one, other_kinds, tensor, value
from onnx import helper
from support import DIGITS, SANITIZED, repquant
from test_recipe_schema import REFUSED as RECIPES
from unharmed import unharmed

DAMAGED, SAMPLED, SEED = 500, 40, 11
LIES, KINDS, ARRAYS = lies(), other_kinds(), bad_arrays()
PEAK_KIB = (2 << 20) if SANITIZED else (96 << 10)
LINE = re.compile(r"repquant: .{8,} \[[a-z]+\.[a-z_]+\]\n", re.S)


def on_each(files, *command):
    """How `repquant COMMAND` ended on each file, by name; "{}" stands for the file."""
    ended = subprocess.run([sys.executable, ROOT / "tests/tools/run_many.py", REPQUANT, *command], input="\n".join(map(str, files)) + "\n",
                           capture_output=True, text=True, timeout=300, check=True)
    return {pathlib.Path(row["file"]).stem: row for row in map(json.loads, ended.stdout.splitlines())}


def inspect_all(files):
    return on_each(files, "inspect", "{}", "--json")


@functools.cache
def _inspected(paths):
    return inspect_all(paths)


def inspected(paths):
    """As inspect_all(), once."""
    return _inspected(tuple(paths))


def refused(status, err, code="", word=""):
    assert status == 1, (status, err)
    assert LINE.fullmatch(err), err
    assert f"[{code}" in err and word in err, err
    assert "(null)" not in err


def write(folder, contents):
    paths = [folder / f"{name}.onnx" for name in contents]
    for path, content in zip(paths, contents.values()):
        path.write_bytes(content)
    return paths


@pytest.fixture(scope="module")
def ruins(tmp_path_factory):
    return write(tmp_path_factory.mktemp("ruins"), dict(damaged(DAMAGED, SEED)))


def test_500_damaged_models_are_refused_or_taken_in_bounded_memory(ruins):
    rows = inspected(ruins)
    assert len(rows) == DAMAGED
    for name, row in rows.items():
        if row["status"]:
            refused(row["status"], row["err"], "model.")
        else:
            assert json.loads(row["out"])["format"] == "onnx"
        assert row["peak_kib"] < PEAK_KIB, name
    assert sum(row["status"] != 0 for row in rows.values()) > DAMAGED // 2
    again = inspect_all(ruins[:SAMPLED])
    assert [(r["status"], r["err"], r["out"]) for r in again.values()] == [(r["status"], r["err"], r["out"]) for r in list(rows.values())[:SAMPLED]]


def test_what_is_taken_runs_or_is_refused(ruins, tmp_path):
    rng = np.random.default_rng(SEED)
    arrays = {"x": rng.standard_normal((4, 8)).astype(np.float32), "ids": rng.integers(0, 9, (4, 5)),
              "pixel_values": rng.standard_normal((4, 1, 8, 8)).astype(np.float32)}
    for name, x in (("conv", rng.standard_normal((4, 3, 8, 8))), ("shapes", rng.standard_normal((4, 2, 6)))):
        np.savez(tmp_path / f"{name}.npz", **{**arrays, "x": x.astype(np.float32)})
    for name in ("mlp", "embedding", "digits"):
        np.savez(tmp_path / f"{name}.npz", **arrays)
    taken = [path for path in ruins if inspected(ruins)[path.stem]["status"] == 0]
    ran = 0
    for name in ("mlp", "conv", "shapes", "embedding", "digits"):
        mine = [path for path in taken if path.stem.endswith(name)]
        for row in on_each(mine, "run", "{}", "--inputs", tmp_path / f"{name}.npz", "--outputs", "{}.npz", "--threads", "1").values():
            ran += row["status"] == 0
            assert row["status"] in (0, 1, 3) and (row["status"] == 0 or LINE.fullmatch(row["err"])), row
            assert row["status"] != 3 or "[resource.memory]" in row["err"], row
            assert row["peak_kib"] < 4 * PEAK_KIB, row
    assert ran > len(taken) // 4


@pytest.mark.parametrize("what", list(LIES))
def test_a_model_that_lies_is_refused_and_the_message_names_it(what, tmp_path):
    content, code, word = LIES[what]
    (row,) = inspect_all(write(tmp_path, {"model": content})).values()
    refused(row["status"], row["err"], code, word)
    assert row["peak_kib"] < PEAK_KIB


@pytest.mark.parametrize("what", list(KINDS))
def test_another_kind_of_file_is_called_by_its_name(what, tmp_path):
    content, word = KINDS[what]
    (row,) = inspect_all(write(tmp_path, {"model": content})).values()
    refused(row["status"], row["err"], "model.format", word)
    if word in ("PyTorch", "pickle", "safetensors"):
        assert "torch.onnx.export" in row["err"]


@pytest.mark.skipif(shutil.which("strace") is None or SANITIZED, reason="strace is not installed, or a sanitizer traces")
@pytest.mark.parametrize("what", ["external data at /etc/passwd", "external data above the folder"])
def test_a_path_in_a_model_is_never_opened(what, tmp_path):
    (path,) = write(tmp_path, {"model": LIES[what][0]})
    subprocess.run(["strace", "-f", "-e", "trace=file", "-o", tmp_path / "trace", REPQUANT, "inspect", path], capture_output=True, timeout=60)
    trace = (tmp_path / "trace").read_text()
    assert "model.onnx" in trace and "passwd" not in trace


@pytest.mark.parametrize("what", list(ARRAYS))
def test_arrays_that_do_not_fit_are_refused_before_any_work(what, tmp_path):
    content, code, word = ARRAYS[what]
    (tmp_path / "calib.npz").write_bytes(content)
    ended = repquant("quantize", DIGITS / "model.onnx", "--calibration", tmp_path / "calib.npz", "--recipe", "minmax-w8a8",
                     "--output", tmp_path / "out", "--progress", "none", status=None, timeout=60)
    refused(ended.returncode, ended.stderr, code, word)
    assert not (tmp_path / "out" / "model.onnx").exists()


@pytest.mark.parametrize("what", list(RECIPES))
def test_a_recipe_that_is_not_one_is_refused_by_the_command(what, tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPES[what]))
    ended = repquant("quantize", DIGITS / "model.onnx", "--calibration", DIGITS / "calib.npz", "--recipe", tmp_path / "recipe.json",
                     "--output", tmp_path / "out", "--progress", "none", status=None, timeout=60)
    refused(ended.returncode, ended.stderr, "recipe.")
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_a_result_larger_than_the_machine_is_refused_before_it_is_made(tmp_path):
    (path,) = write(tmp_path, {"model": one("Expand", ["x", "s"], weights=[tensor("s", np.int64([1, 2**39]))], shape=("n", 1))})
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 1), np.float32))
    ended = repquant("run", path, "--inputs", tmp_path / "x.npz", "--outputs", tmp_path / "y.npz", status=None, timeout=60)
    said = ended.stderr.splitlines(True)[-1]            # a sanitizer warns of the same before it
    assert ended.returncode == 3 and LINE.fullmatch(said) and "[resource.memory]" in said, ended.stderr
    assert not (tmp_path / "y.npz").exists()


# ---- the same through the daemon ----

@pytest.fixture(scope="module")
def service(tmp_path_factory):
    d = Daemon(tmp_path_factory.mktemp("daemon"), REPQUANT, {}).start()
    with contextlib.ExitStack() as d.attacks:           # the last test ends them, and then the daemon
        d.attacks.enter_context(unharmed(d))
        yield d


def problem(answer, code):
    """A problem document that says something and shows nothing of the machine."""
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    said = answer.json()
    assert said["code"].startswith(code) and said["status"] == answer.status_code and len(said["detail"]) > 8, said
    assert "/scratch/" not in answer.text and "/blobs" not in answer.text and "/fd/" not in answer.text
    return said


def register(service, kind, name, content):
    # requests would send an empty body chunked; a length of zero is what curl sends.
    return service("PUT", f"/v1/{kind}", params={"name": name}, data=content, headers={"Content-Length": str(len(content))}, timeout=60)


@pytest.mark.parametrize("shift", range(3))
def test_a_problem_with_a_long_name_is_told(service, shift):
    """Where the name is cut, no character is: the line that the child tells it with is JSON."""
    node = helper.make_node("Foo", ["x"], ["y"], "a" * shift + "中" * 100)
    content = model([node], [value("x", [4])], [value("y", [4])])
    said = problem(register(service, "models", "named", content), "model.")
    assert "'" + "a" * shift + "中" * 20 in said["where"] and "?" not in said["where"], said


@pytest.fixture(scope="module")
def registered(service):
    ids = {}
    for kind, name in (("models", "model.onnx"), ("datasets", "calib.npz")):
        answer = register(service, kind, "good", (DIGITS / name).read_bytes())
        assert answer.status_code == 201, answer.text
        ids[kind] = answer.json()["id"]
    return ids


def test_damaged_models_are_refused_by_the_service_or_taken(service, ruins):
    taken = 0
    for path in ruins[::DAMAGED // SAMPLED]:
        answer = register(service, "models", path.stem, path.read_bytes())
        if answer.status_code == 201:
            taken += 1
            assert service("DELETE", f"/v1/models/{answer.json()['id']}").status_code == 204
        else:
            problem(answer, "model.")
    assert taken < SAMPLED / 2


def test_lies_and_other_kinds_are_refused_by_the_service(service):
    for what, (content, code, word) in LIES.items():
        said = problem(register(service, "models", "lie", content), code)
        assert word in said["detail"] + said.get("where", ""), what
    for content, word in KINDS.values():
        assert word in problem(register(service, "models", "other", content), "model.format")["detail"]


def test_arrays_are_refused_at_registration_or_with_the_job(service, registered):
    for what, (content, code, _) in ARRAYS.items():
        answer = register(service, "datasets", "bad", content)
        if answer.status_code != 201:
            problem(answer, "dataset.")
            continue
        job = service("POST", "/v1/jobs", json={"type": "quantize", "model_id": registered["models"], "dataset_id": answer.json()["id"],
                                                "recipe": "minmax-w8a8"})
        if job.status_code != 202:
            assert problem(job, code)["pointer"] == "/dataset_id"
            continue
        ended = service.ended(job.json()["id"], 60)
        assert ended["state"] == "failed" and ended["problem"]["code"].startswith(code), (what, ended)


@pytest.mark.parametrize("what", list(RECIPES))
def test_a_recipe_that_is_not_one_is_refused_by_the_service_with_a_pointer(service, registered, what):
    body = {"type": "quantize", "model_id": registered["models"], "dataset_id": registered["datasets"], "recipe": RECIPES[what]}
    said = problem(service("POST", "/v1/jobs", json=body), "recipe.")
    assert said["pointer"].startswith("/recipe"), said


def test_after_all_that_it_serves_a_good_job_and_nothing_is_left(service, registered):
    assert service("GET", "/healthz").status_code == 200 and service("GET", "/readyz").status_code == 200
    job = service("POST", "/v1/jobs", json={"type": "quantize", "model_id": registered["models"], "dataset_id": registered["datasets"],
                                            "recipe": "minmax-w8a8"}).json()
    ended = service.ended(job["id"], 120)
    assert ended["state"] == "succeeded", ended
    assert not service.leftovers()
    until(lambda: not list((service.data / "scratch").iterdir()), what="an empty scratch folder")
    service.attacks.close()
    assert service.stop() == 0
