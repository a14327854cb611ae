"""repquantctl and the files of whoever runs it: what it may write to, what it may not, and what it makes of odd names."""
import os
import re
import subprocess

import pytest
from conftest import ROOT
from desk import NPZ, RUN, Desk, artifact, artifacts, desk, liar, proxy  # noqa: F401  (fixtures)
from support import digest_of

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
    assert sum("waiting for it" in err for (_, err), _ in said) == 3
    assert len(p.asked("GET /v1/artifacts")) == 1
    assert (desk.folder / "out/model.onnx").read_bytes() == bytes(9_000_000)
    assert [f.name for f in (desk.folder / "out").iterdir()] == ["model.onnx"]
