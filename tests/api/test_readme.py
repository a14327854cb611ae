"""The README's session with curl, pasted into a shell as it stands there."""
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import REPQUANT, ROOT
from support import load

sys.path.insert(0, str(ROOT / "tests" / "tools"))
import ort_eval  # noqa: E402

SESSION = re.search(r"^## A session with curl$.*?^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)[1]
EXAMPLE = "DIR=examples/digits "


@pytest.fixture
def pasted(make_daemon, tmp_path):
    """A function that runs the session with one text of it replaced, and gives what it printed."""
    daemon = make_daemon(program=REPQUANT, auth="off")

    def paste(old, new):
        # Where its files go is the folder it runs in, so that is not the repository: what it reads there is linked.
        for name in ("examples", "tests", ".venv"):
            (tmp_path / name).symlink_to(ROOT / name)
        assert SESSION.count("http://127.0.0.1:8080") == SESSION.count(old) == 1
        text = SESSION.replace("http://127.0.0.1:8080", daemon.url).replace(old, new)
        done = subprocess.run(["bash"], input=text, capture_output=True, text=True, timeout=120, cwd=tmp_path, env={**os.environ, "no_proxy": "127.0.0.1"})
        return done.stdout, done.stderr

    return paste


def test_the_session_ends_with_a_model_that_runs(pasted, tmp_path):
    out, err = pasted(EXAMPLE, EXAMPLE)
    assert err == "", err + out
    assert re.findall(r"(?:^|})(mdl|ds|job|art)_[0-9A-Z]{26}$", out, re.M) == ["mdl", "ds", "ds", "job", "art"]
    assert "event: job.succeeded" in out and "same answer" in out
    data = load(ROOT / "examples/digits/eval.npz")
    logits = [ort_eval.logits_of(str(model), data, exact=True) for model in (ROOT / "examples/digits/model.onnx", tmp_path / "quantized.onnx")]
    assert ort_eval.compare(*logits)["agreement"] > 0.97
    assert "<html" in (tmp_path / "report.html").read_text()


def test_what_goes_wrong_in_it_is_said_and_leaves_no_file_that_looks_like_a_result(pasted, tmp_path):
    out, err = pasted('"percentile-w8a8"', '"no-such-recipe"')
    problem = json.loads(next(line for line in out.splitlines() if line.startswith('{"type":"urn:repquant:problem:')))
    assert problem["code"] == "recipe.unknown"
    assert "curl: (22)" in err or "curl: (3)" in err
    assert not (tmp_path / "report.html").exists() and not (tmp_path / "quantized.onnx").exists()


def test_the_demo_keeps_its_token_out_of_command_lines(make_daemon, tmp_path):
    daemon = make_daemon(program=REPQUANT)
    (tmp_path / "curl").write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {tmp_path}/said\nexec {shutil.which("curl")} "$@"\n')
    (tmp_path / "curl").chmod(0o755)
    done = subprocess.run([ROOT / "scripts/demo"], capture_output=True, text=True, timeout=900, env={
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "REPQUANT_URL": daemon.url, "REPQUANT_TOKEN": daemon.token})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rq_" not in (tmp_path / "said").read_text() + done.stdout
