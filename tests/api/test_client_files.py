"""repquantctl and the files of whoever runs it: what it may write to, what it may not, and what it makes of odd names."""
import os
import re
import subprocess

import pytest
from conftest import ROOT
from desk import NPZ, Desk, artifact, artifacts, desk, liar, proxy  # noqa: F401  (fixtures)
from support import digest_of
from test_rot import rot

CONTENT = "GET /v1/artifacts/art_1/content"


# ---- where results go ----

def test_folders_are_made_with_those_above_them_before_anything_is_sent(desk, daemon, proxy):
    p = proxy(daemon.port)
    desk.url = p.url
    words = desk.submission()
    desk.write("file", "mine")
    text = desk.run(*words, "--wait", "--output", "file/out", status=1)
    assert "file/out" in text and "[client.file]" in text and not p.heads
    desk.run(*words, "--wait", "--output", "q/a/b")
    assert (desk.folder / "q/a/b/model.onnx").read_bytes() == b"MODEL"


def test_the_rule_of_the_manual_makes_its_target(desk):
    """docs/client.md's, on its first run."""
    manual = (ROOT / "docs/client.md").read_text()
    rule = re.search(r"^    (out/%/model.onnx: .*)\n    \t(.*)$", manual, re.M)
    make = rule[1] + "\n\t" + rule[2].replace("repquantctl", os.environ.get("REPQUANTCTL", str(ROOT / "build/repquantctl"))) + "\n"
    desk.write("Makefile", make.replace("repquant-w8a8", "minmax-w8a8"))
    desk.submission(name="deit.onnx")
    for _ in range(2):
        subprocess.run(["make", "out/deit/model.onnx"], cwd=desk.folder, env=desk.environment(), check=True, capture_output=True, timeout=60)
    assert (desk.folder / "out/deit/model.onnx").read_bytes() == b"MODEL"


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_results_replace_nothing_that_is_submitted(desk, daemon, proxy, force):
    p = proxy(daemon.port)
    desk.url = p.url
    words = desk.submission()
    before = {f.name: f.read_bytes() for f in desk.folder.iterdir() if f.is_file()}
    text = desk.run(*words, "--wait", "--output", ".", *force, status=2)
    assert "model.onnx" in text and "another --output" in text and not p.heads
    assert {f.name: f.read_bytes() for f in desk.folder.iterdir() if f.is_file()} == before


def test_nor_does_a_result_with_a_name_of_its_own(desk):
    words = desk.submission("result calib.npz MODEL", name="float.onnx")
    assert "calib.npz" in desk.run(*words, "--wait", "--output", ".", "--force", status=2)
    assert (desk.folder / "calib.npz").read_text() == NPZ


@pytest.mark.parametrize("what", ["fifo", "folder", "link", "dangling link"])
def test_what_is_no_file_is_not_replaced(desk, liar, what):
    (desk.folder / "out").mkdir()
    there = desk.folder / "out/model.onnx"
    desk.write("mine", "MINE")
    {"fifo": os.mkfifo, "folder": os.mkdir, "link": lambda p: p.symlink_to(desk.folder / "mine"),
     "dangling link": lambda p: p.symlink_to("absent")}[what](there)
    before = os.lstat(there).st_ino
    desk.url = liar({**artifacts([artifact(b"MODEL")]), CONTENT: [(200, {}, b"MODEL")]}).url
    words = ["download", "job_01", "--output", "out"]
    text = desk.run(*words, status=1)
    assert "[client.exists]" in text and "model.onnx" in text and os.lstat(there).st_ino == before
    if "link" in what:
        desk.run(*words, "--force")
        assert not there.is_symlink() and there.read_bytes() == b"MODEL" and (desk.folder / "mine").read_text() == "MINE"
    else:
        assert "[client.exists]" in desk.run(*words, "--force", status=1) and os.lstat(there).st_ino == before


def test_two_commands_into_one_folder_fetch_it_once(desk, daemon, proxy):
    job = daemon.ended(daemon.job("sparse model.onnx 9000000")["id"])["id"]
    p = proxy(daemon.port)
    p.slow = 0.01
    desk.url = p.url
    runs = [desk.start("download", job, "--output", "out") for _ in range(4)]
    said = [(r.communicate(timeout=60), r.returncode) for r in runs]
    assert [code for _, code in said] == [0] * 4, said
    assert any("waiting for it" in err for (_, err), _ in said)        # who came late found it there
    assert len(p.asked("GET /v1/artifacts")) == 1
    assert (desk.folder / "out/model.onnx").read_bytes() == bytes(9_000_000)
    assert [f.name for f in (desk.folder / "out").iterdir()] == ["model.onnx"]


# ---- what files are called ----

def test_a_folder_of_any_name_has_its_results_told(desk, daemon):
    job = daemon.ended(daemon.job("result model.onnx MODEL")["id"])["id"]
    assert desk.run("download", job, "--output", "o\udcff") == "o?/model.onnx\n"
    assert [f["path"] for f in desk.json("download", job, "--output", "o\udcff")["files"]] == ["o?/model.onnx"]


ODD = ["m\udcff.onnx", "new\nline.onnx", "back\\slash.onnx", "escape\x1b[2J.onnx", "c1\x9b.onnx", "ä" * 120 + ".onnx", "plain ä.onnx"]


@pytest.mark.parametrize("odd", ODD, ids=ascii)
@pytest.mark.parametrize("name", [None, "deit"])
def test_odd_names_are_sent_as_others(desk, daemon, odd, name):
    words = desk.submission(name=odd)
    desk.write(odd + ".npz", NPZ + "#" + os.urandom(8).hex())
    words[words.index("calib.npz")] = odd + ".npz"
    job = desk.run(*words, *(["--name", name] if name else [])).strip()
    asked = daemon("GET", f"/v1/jobs/{job}").json()["request"]
    model = daemon("GET", f"/v1/models/{asked['model_id']}").json()
    data = daemon("GET", f"/v1/datasets/{asked['dataset_id']}").json()
    plain = re.sub("[\udcff\n\x1b\x7f]|\x9b", lambda m: "?" * len(m[0].encode(errors="surrogateescape")), odd)
    assert model["name"] == (name or plain.encode()[:200].decode(errors="ignore"))
    assert [f["path"] for f in model["files"]] == [odd if odd == plain and "\\" not in odd else "model.onnx"]
    assert data["name"] == (plain + ".npz").encode()[:200].decode(errors="ignore") and len(data["files"]) == 1
    assert desk.run(*words, *(["--name", name] if name else [])).strip() == job


def test_a_name_of_external_data_that_no_model_can_have_is_refused(desk, daemon):
    words = desk.submission()
    words[2:2] = [desk.write("w\udcff.bin", "W")]
    before = daemon("GET", "/v1/models?limit=200").json()["data"]
    text = desk.run(*words, status=1)
    assert "[client.name]" in text and "w\udcff.bin" in text
    assert desk.json(*words, status=1)["where"] == "w?.bin"
    assert daemon("GET", "/v1/models?limit=200").json()["data"] == before
    words[2] = desk.write("w.bin", "W")
    assert "--name" in desk.run(*words, "--name", "m\udcff", status=2)
    assert "bytes" in desk.run(*words, "--name", "ä" * 200, status=1)        # it is the service that says so


@pytest.mark.parametrize("spelled, cwd", [
    (("big/model.onnx", "./big/data/w..1.bin"), "."), (("./big/model.onnx", "big/../big/data/w..1.bin"), "."),
    (("model.onnx", "./data/w..1.bin"), "big"), (("ABS/big/model.onnx", "big/data/w..1.bin"), "."), (("model.onnx", "../big//data/w..1.bin"), "big"),
    (("link/model.onnx", "big/data/w..1.bin"), "."), (("big/model.onnx", "link/data/w..1.bin"), "."),
])
def test_external_data_keeps_its_path_however_it_is_spelled(desk, daemon, spelled, cwd):
    (desk.folder / "big/data").mkdir(parents=True)
    (desk.folder / "link").symlink_to("big")
    desk.write("big/data/w..1.bin", os.urandom(50))
    words = desk.submission(name="big/model.onnx")
    words[words.index("calib.npz")] = desk.folder / "calib.npz"
    words[1:2] = [s.replace("ABS", str(desk.folder)) for s in spelled]
    desk.folder /= cwd
    (desk.folder / "home").mkdir(exist_ok=True)
    model = daemon("GET", f"/v1/jobs/{desk.run(*words).strip()}").json()["request"]["model_id"]
    assert [f["path"] for f in daemon("GET", f"/v1/models/{model}").json()["files"]] == ["model.onnx", "data/w..1.bin"]


# ---- what has rotted ----

@pytest.mark.parametrize("files", ["one", "several", "large"])
def test_files_at_hand_heal_what_has_rotted(make_daemon, tmp_path, files):
    d = make_daemon(max_upload="64M")
    desk = Desk(tmp_path, d.url, d.token)
    words = desk.submission()
    if files == "several":
        words[2:2] = [desk.write("w.bin", os.urandom(50))]
    if files == "large":
        with open(desk.folder / "model.onnx", "ab") as f:
            f.write(os.urandom(9 << 20))
    desk.run(*words, "--wait", "--quiet")
    rotted = [digest_of((desk.folder / name).read_bytes()) for name in words[1:3 if files == "several" else 2] + ["calib.npz"]]
    for digest in rotted:
        rot(d, digest)
        assert d("GET", f"/v1/blobs/{digest}?verify=1").status_code == 410
    desk.run(*words, "--new", "--wait", "--quiet")
    assert all(d("GET", f"/v1/blobs/{digest}").status_code == 200 for digest in rotted)
    assert len(d("GET", "/v1/models").json()["data"]) == 1 and len(d("GET", "/v1/datasets").json()["data"]) == 1


def test_a_result_that_has_rotted_is_no_fault_of_the_input(make_daemon, tmp_path):
    d = make_daemon()
    desk = Desk(tmp_path, d.url, d.token)
    job = desk.run(*desk.submission(), "--wait", "--quiet").strip()
    result = next(a for a in d("GET", f"/v1/jobs/{job}/artifacts").json()["data"] if a["name"] == "model.onnx")
    rot(d, result["digest"])
    assert d("GET", result["urls"]["content"], params={"verify": 1}).status_code == 410
    text = desk.run("download", job, status=3)
    assert "[storage.corrupt]" in text and "--new" in text
