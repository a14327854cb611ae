"""repquantctl as people and pipelines run it, against the real daemon: also through a network that breaks and a service that lies."""
import json
import os
import pty
import random
import re
import signal
import sqlite3
import stat
import subprocess

import pytest
from conftest import until
from desk import CTL, NPZ, RUN, Desk, artifact, artifacts, desk, liar, proxy  # noqa: F401  (fixtures)
from support import digest_of


# ---- the way of a job ----

def test_from_a_file_to_its_results(desk, daemon):
    words = desk.submission() + ["--evaluation", "calib.npz", "--label", "suite=client", "--label", "empty=", "--priority", "7", "--name", "deit"]
    out = desk.run(*words)
    assert re.fullmatch(r"job_[0-9A-Z]{26}\n", out)
    job = out.strip()
    ended = desk.run("wait", job)
    assert ended.startswith(f"{job} succeeded\n") and re.search(r"top1 +0.75 -> 0.5\n", ended)
    row = desk.json("status", job)
    assert row == daemon("GET", f"/v1/jobs/{job}").json()
    assert row["request"]["labels"] == {"suite": "client", "empty": ""} and row["request"]["priority"] == 7
    assert daemon("GET", f"/v1/models/{row['request']['model_id']}").json()["name"] == "deit"
    assert job in desk.run("status")
    assert desk.run("download", job).split() == [f"{job}/model.onnx", f"{job}/report.json"]
    assert (desk.folder / job / "model.onnx").read_bytes() == b"MODEL"
    assert sorted(p.name for p in (desk.folder / job).iterdir()) == ["model.onnx", "report.json"]


def test_submit_waits_fetches_and_prints_only_the_id(desk):
    p = desk.start(*desk.submission(), "--wait", "--output", "out")
    out, err = p.communicate(timeout=60)
    assert p.returncode == 0 and re.fullmatch(r"job_[0-9A-Z]{26}\n", out), out + err
    assert "quantizing" in err and "warning" in err and "top1" in err and "succeeded" in err and "\033" not in err
    assert (desk.folder / "out" / "model.onnx").read_bytes() == b"MODEL"


def test_a_command_that_is_repeated_makes_no_second_job(desk, daemon, proxy):
    p = proxy(daemon.port)
    desk.url = p.url
    words = desk.submission()
    first = desk.run(*words)
    sent = len(p.asked("PUT /v1/blobs")), len(p.asked("POST /v1/models"))
    assert desk.run(*words) == first
    assert (len(p.asked("PUT /v1/blobs")), len(p.asked("POST /v1/models"))) == sent
    again = desk.run(*words, "--new")
    assert again != first
    assert desk.run(*words) == first
    (desk.folder / "model.onnx").rename(desk.folder / "other.onnx")
    assert desk.run("submit", "other.onnx", *words[2:]) == first
    row = daemon("GET", f"/v1/jobs/{again.strip()}").json()
    assert row["request"]["model_id"] == daemon("GET", f"/v1/jobs/{first.strip()}").json()["request"]["model_id"]
    other = desk.run("submit", "other.onnx", *words[2:], "--priority", "1")
    assert other not in (first, again)


def test_the_job_of_then_is_shown_as_it_is_and_made_anew_where_it_is_gone(desk, daemon):
    words = desk.submission("stage quantizing; hang")
    first = desk.run(*words).strip()
    desk.run("cancel", first)
    until(lambda: daemon("GET", f"/v1/jobs/{first}").json()["state"] == "canceled", 10, "canceled")
    p = desk.start(*words)
    out, err = p.communicate(timeout=30)
    assert p.returncode == 0 and out.strip() == first and "(canceled)" in err and "--new" in err
    assert desk.json(*words)["state"] == "canceled"
    assert daemon("DELETE", f"/v1/jobs/{first}").status_code == 204
    second = desk.run(*words).strip()
    assert second != first and desk.run(*words).strip() == second
    desk.run("cancel", second)
    until(lambda: daemon("DELETE", f"/v1/jobs/{second}").status_code == 204, 10, "deleted")
    third = desk.run(*words).strip()
    assert third not in (first, second) and desk.run(*words).strip() == third
    desk.run("cancel", third)


def test_what_was_quantized_is_found_when_its_key_is_forgotten(make_daemon, tmp_path):
    """After a day; a job with labels or a priority of its own is another one."""
    d = make_daemon()
    desk = Desk(tmp_path, d.url, d.token)
    words = desk.submission()
    first = desk.run(*words, "--wait", "--quiet").strip()
    labelled = desk.run(*words, "--wait", "--quiet", "--label", "a=b").strip()
    assert d.stop() == 0
    with sqlite3.connect(d.data / "repquant.db") as db:
        assert db.execute("DELETE FROM idempotency").rowcount >= 2
    d.start()
    desk.url = d.url
    p = desk.start(*words)
    out, err = p.communicate(timeout=30)
    assert p.returncode == 0 and out.strip() in (first, labelled) and "submitted before" in err and "(succeeded)" in err
    assert desk.run(*words, "--label", "a=b").strip() not in (first, labelled)
    assert desk.run(*words, "--new").strip() not in (first, labelled)


def test_the_recipe_may_be_a_file(desk):
    recipe = desk.json("status", desk.run(*desk.submission()).strip())["recipe"]
    recipe["exclude"] = ["head"]
    desk.write("mine.json", json.dumps(recipe))
    words = desk.submission()
    words[words.index("--recipe") + 1] = "mine.json"
    assert desk.json("status", desk.run(*words).strip())["recipe"]["exclude"] == ["head"]
    desk.write("mine.json", '{"exclude": [}')
    text = desk.run(*words, status=1)
    assert "mine.json" in text and "line 1, column" in text
    desk.write("mine.json", json.dumps({**recipe, "weights": {"bits": 77}}))
    text = desk.run(*words, status=1)
    assert "[recipe.field]" in text and "where:       /recipe/weights/bits" in text and "what to do:" in text


def test_external_data_keeps_its_names(desk, daemon):
    (desk.folder / "big" / "data").mkdir(parents=True)
    desk.write("big/data/w.bin", os.urandom(50))
    desk.write("aside.bin", os.urandom(60))
    words = desk.submission(name="big/model.onnx")
    words[2:2] = ["big/data/w.bin", "aside.bin"]
    job = desk.run(*words).strip()
    model = daemon("GET", f"/v1/jobs/{job}").json()["request"]["model_id"]
    assert [f["path"] for f in daemon("GET", f"/v1/models/{model}").json()["files"]] == ["model.onnx", "data/w.bin", "aside.bin"]
    assert desk.run(*words).strip() == job


@pytest.mark.parametrize("script, state, say", [
    ("problem model.unsupported_op no export-it-without-Foo", "failed", "export-it-without-Foo"),
    ("problem resource.memory no too-little-of-it", "failed", "too-little-of-it"),
])
def test_a_job_that_fails_is_exit_1_and_says_why(desk, script, state, say):
    words = desk.submission(script)
    for options in ((), ("--quiet",)):          # why it failed is not progress
        text = desk.run(*words, "--wait", *options, status=1)
        assert say in text and state in text
    job = re.search(r"job_[0-9A-Z]{26}", text)[0]
    doc = desk.json("wait", job, status=1)
    assert doc["state"] == state and doc["problem"]["code"] == script.split()[1]
    assert desk.json("status", job)["state"] == state
    assert "[client.no_results]" in desk.run("download", job, status=1)


def test_events_come_once_in_order_and_in_full(desk):
    job = desk.run(*desk.submission("stage preparing; sleep 300; layer 3; metric top1 0.5 0.25; result model.onnx X")).strip()
    lines = desk.run("events", job, "--follow").splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert "job.succeeded" in lines[-1] and any("top1: float 0.5, quantized 0.25" in line for line in lines)
    doc = desk.json("events", job, "--after", "2")
    assert [e["seq"] for e in doc["data"]] == list(range(3, len(lines) + 1)) and doc["last_seq"] == len(lines)
    assert desk.run("events", job, "--follow", "--after", str(len(lines))) == ""


def test_events_end_when_nobody_reads_them(desk):
    job = desk.run(*desk.submission("stage preparing; sleep 500; progress 1 3; sleep 500; progress 2 3; hang")).strip()
    p = desk.start("events", job, "--follow")
    assert p.stdout.readline()
    p.stdout.close()
    assert p.wait(20) == 3 and p.stderr.read() == ""
    p.stderr.close()
    p.stdin.close()
    desk.run("cancel", job)


def test_cancel(desk, daemon):
    job = desk.run(*desk.submission("stage quantizing; hang")).strip()
    assert desk.run("cancel", job).startswith(job)
    assert "canceled" in desk.run("wait", job, status=1)
    assert desk.json("cancel", job)["state"] == "canceled"


@pytest.mark.parametrize("options, state", [((), "running"), (("--cancel-on-interrupt",), "canceled")])
def test_an_interrupt_leaves_the_job_and_says_how_to_go_on(desk, daemon, options, state):
    job = desk.run(*desk.submission("stage quantizing; progress 1 2; hang")).strip()
    p = desk.start("wait", job, *options)
    assert any("50 %" in line for line in iter(p.stderr.readline, ""))      # it has begun to watch
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=30)
    assert p.returncode == 130, out + err
    until(lambda: daemon("GET", f"/v1/jobs/{job}").json()["state"] == state, 5, state)
    if options:
        assert "the job was canceled" in err
    else:
        assert f"repquantctl wait {job}" in err and f"repquantctl cancel {job}" in err
        desk.run("cancel", job)


def test_waiting_has_an_end_if_one_is_asked_for(desk):
    job = desk.run(*desk.submission("stage quantizing; hang")).strip()
    assert "[client.timeout]" in desk.run("wait", job, "--timeout", "1", status=3)
    assert desk.json("status", job)["state"] == "running"
    desk.run("cancel", job)


def on_terminal(desk, *words):
    """What a person sees of a command that succeeds."""
    ours, theirs = pty.openpty()
    p = subprocess.Popen([CTL, *words], cwd=desk.folder, env=desk.environment(), stdin=theirs, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
    assert p.wait(20) == 0
    p.stdout.close()
    os.close(ours)
    return seen


def test_a_terminal_sees_a_bar(desk):
    job = desk.run(*desk.submission("stage quantizing; progress 1 4; sleep 400; progress 3 4; sleep 400; result model.onnx X")).strip()
    seen = on_terminal(desk, "wait", job)
    assert re.search(rb"quantizing +\[#+\.+\] +\d+ %", seen) and seen.rstrip().endswith(b"\033[K")


def test_a_bar_does_not_drive_the_terminal(desk, liar):
    stage = {"seq": 1, "type": "job.stage_changed", "data": {"stage": "\033]0;x\007\u009by"}}
    events = [stage, {"seq": 2, "type": "job.progress", "data": {"done": 1, "total": 2}}, {"seq": 3, "type": "job.succeeded", "data": {"state": "succeeded"}}]
    desk.url = liar({"GET /v1/jobs/job_01/events": [(200, {}, {"data": events})],
                     "GET /v1/jobs/job_01": [(200, {}, {"id": "job_01", "state": "succeeded"})]}).url
    seen = on_terminal(desk, "wait", "job_01")
    assert b"?]0;x???y" in seen and b"50 %" in seen
    assert not re.search(rb"\033(?!\[K)|\007|\xc2\x9b", seen)


# ---- tokens ----

def test_login_keeps_the_token_for_its_service_only(desk, daemon, liar):
    token, desk.token = desk.token, None
    assert "[auth.required]" in desk.run("status", status=3) and "repquantctl login" in desk.run("status", status=3)
    text = desk.run("login", stdin=token + "\n")
    file = desk.folder / "home/.config/repquant/login.json"
    assert "role admin" in text and token not in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [p.name for p in file.parent.iterdir()] == ["login.json"]
    desk.run("status")
    url, desk.url = desk.url, ""
    desk.run("status")                                  # the last login is where to go without a URL
    other = liar({"GET /v1/jobs": [(200, {}, {"data": []})]})
    desk.url = other.url
    desk.run("status")
    assert other.seen and all("Authorization" not in fields for _, _, fields in other.seen)
    file.chmod(0o644)
    desk.url = url
    assert "chmod 600" in desk.run("status", status=3)


@pytest.mark.parametrize("token, code", [("rq_" + "A" * 40, "auth.required"), ("hunter2", "client.token"), ("", "client.token")])
def test_login_keeps_no_token_that_is_not_valid(desk, token, code):
    desk.token = None
    text = desk.run("login", stdin=token + "\n", status=2 if not token else 3)
    assert f"[{code}]" in text and (not token or token not in text)
    assert not (desk.folder / "home/.config/repquant/login.json").exists()


def test_a_wrong_token_is_exit_3_and_says_what_to_do(desk):
    desk.token = "rq_" + "A" * 40
    text = desk.run(*desk.submission(), status=3)
    assert "[auth.required]" in text and "what to do:" in text and desk.token not in text
    doc = desk.json("status", status=3)
    assert doc["code"] == "auth.required" and doc["status"] == 401 and doc["exit"] == 3 and doc["request_id"] and doc["remedy"]


@pytest.mark.parametrize("url, refused", [
    ("http://quant.example", True), ("http://127.0.0.1.example:8080", True), ("http://10.0.0.1:1", True), ("http://localhost.example", True),
    ("http://[::1]:1", False), ("http://localhost:1", False), ("http://127.1.2.3:1", False),
])
def test_no_token_goes_over_plain_http(desk, url, refused):
    desk.url = url
    text = desk.run("status", "--patience", "0", status=3)
    assert ("[client.plain_http]" in text) == refused, text


@pytest.mark.parametrize("url", ["quant.example", "ftp://quant.example", "http://user:secret@127.0.0.1", "http://127.0.0.1/?a=b", "http://"])
def test_what_is_no_url_is_usage(desk, url):
    desk.url = url
    text = desk.run("status", status=2)
    assert "[client.url]" in text and "secret" not in text


def test_a_redirect_is_not_followed_and_a_proxy_not_asked(desk, liar):
    other = liar({})
    desk.url = liar({"GET /v1/jobs": [(307, {"Location": other.url + "/v1/jobs"}, b"")]}).url
    text = desk.run("status", status=3, http_proxy=other.url, all_proxy=other.url)
    assert "http.307" in text and not other.seen


# ---- what is between ----

def test_a_large_upload_goes_on_where_it_broke(make_daemon, tmp_path, proxy):
    d = make_daemon(max_upload="64M")
    data = f"#quantize {RUN}\n".encode() + random.Random(3).randbytes(12_000_000)
    p = proxy(d.port, [("PATCH", "up", 3_000_000), ("PATCH", "up", 100), ("PATCH", "up", 4_000_000), ("HEAD /v1/uploads", "down", 0)])
    desk = Desk(tmp_path, p.url, d.token)
    desk.write("model.onnx", data)
    words = ["submit", "model.onnx", "--calibration", desk.write("calib.npz", NPZ), "--recipe", "minmax-w8a8"]
    job = desk.run(*words).strip()
    assert not p.cuts
    offsets = [int(re.search(r"Upload-Offset: (\d+)", h)[1]) for h in p.asked("PATCH")]
    assert offsets[0] == 0 and offsets == sorted(offsets) and offsets[-1] > 6_000_000
    assert d("GET", f"/v1/blobs/{digest_of(data)}").content == data
    assert len(p.asked("POST /v1/uploads")) == 1
    assert desk.run(*words).strip() == job
    assert not list((desk.folder / "home/.cache/repquant/uploads").iterdir())


def test_an_upload_goes_on_in_the_next_run(make_daemon, tmp_path, proxy):
    d = make_daemon(max_upload="64M")
    data = f"#quantize {RUN}\n".encode() + random.Random(4).randbytes(12_000_000)
    p = proxy(d.port, [("PATCH", "up", 5_000_000)])
    desk = Desk(tmp_path, p.url, d.token)
    desk.write("model.onnx", data)
    words = ["submit", "model.onnx", "--calibration", desk.write("calib.npz", NPZ), "--recipe", "minmax-w8a8"]
    assert "[client.network]" in desk.run(*words, "--patience", "0", status=3)
    desk.run(*words)
    offsets = [int(re.search(r"Upload-Offset: (\d+)", h)[1]) for h in p.asked("PATCH")]
    assert len(p.asked("POST /v1/uploads")) == 1 and len(offsets) == 2 and offsets[1] > 4_000_000
    assert d("GET", f"/v1/blobs/{digest_of(data)}").content == data


def test_a_download_goes_on_by_range_and_in_the_next_run(daemon, desk, proxy):
    job = daemon.ended(daemon.job("sparse model.onnx 9000000")["id"])["id"]
    p = proxy(daemon.port, [("GET /v1/artifacts", "down", 4_000_000), ("GET /v1/artifacts", "down", 2_000_000)])
    desk.url = p.url
    desk.run("download", job, "--output", "a")
    assert (desk.folder / "a/model.onnx").read_bytes() == bytes(9_000_000)
    ranges = [int(r[1]) for h in p.asked("GET /v1/artifacts") if (r := re.search(r"Range: bytes=(\d+)-", h))]
    assert len(ranges) == 2 and ranges[0] > 3_000_000 and ranges[1] > ranges[0] + 1_000_000
    p.cuts = [("GET /v1/artifacts", "down", 5_000_000)]
    assert "[client.network]" in desk.run("download", job, "--output", "b", "--patience", "0", status=3)
    assert not (desk.folder / "b/model.onnx").exists()
    before = len(p.heads)
    desk.run("download", job, "--output", "b")
    assert any("Range: bytes=" in h for h in p.heads[before:])
    assert (desk.folder / "b/model.onnx").read_bytes() == bytes(9_000_000)
    before = len(p.asked("GET /v1/artifacts"))
    desk.run("download", job, "--output", "b")          # it is there: nothing is fetched
    assert len(p.asked("GET /v1/artifacts")) == before
    (desk.folder / "b/model.onnx").write_bytes(b"my own")
    assert "[client.exists]" in desk.run("download", job, "--output", "b", status=1)
    assert (desk.folder / "b/model.onnx").read_bytes() == b"my own"
    desk.run("download", job, "--output", "b", "--force")
    assert (desk.folder / "b/model.onnx").read_bytes() == bytes(9_000_000)
    assert not [f.name for f in (desk.folder / "b").iterdir() if f.name.startswith(".")]


@pytest.mark.parametrize("lost", ["POST /v1/jobs", "POST /v1/models", "POST /v1/datasets", "PUT /v1/blobs"])
def test_an_answer_that_is_lost_makes_nothing_twice(make_daemon, tmp_path, proxy, lost):
    d = make_daemon()
    desk = Desk(tmp_path, proxy(d.port, [(lost, "down", 0)]).url, d.token)
    job = desk.run(*desk.submission()).strip()
    assert [j["id"] for j in d("GET", "/v1/jobs").json()["data"]] == [job]
    assert len(d("GET", "/v1/models").json()["data"]) == 1 and len(d("GET", "/v1/datasets").json()["data"]) == 1


def test_waiting_survives_a_restart_of_the_daemon(make_daemon, tmp_path):
    d = make_daemon()
    port = d.port
    desk = Desk(tmp_path, d.url, d.token)
    job = desk.run(*desk.submission("stage quantizing; progress 1 2; sleep 1500; progress 2 2; result model.onnx X")).strip()
    p = desk.start("wait", job)
    until(lambda: d("GET", f"/v1/jobs/{job}").json()["state"] == "running", 10, "running")
    d.stop()
    (d.folder / "port").unlink(missing_ok=True)
    d.options["port"] = str(port)
    d.start()
    out, err = p.communicate(timeout=60)
    assert p.returncode == 0 and "succeeded" in out, out + err


def test_the_rate_limit_is_obeyed(make_daemon, tmp_path, proxy):
    d = make_daemon(rate="3", rate_burst="2")
    p = proxy(d.port)
    desk = Desk(tmp_path, p.url, d.token)
    run = desk.start(*desk.submission())
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0 and "[quota.rate]; trying again" in err, out + err


def test_retry_after_is_obeyed_and_patience_ends(desk, liar):
    busy = (503, {"Retry-After": "1"}, {"code": "service.busy", "title": "The service is busy", "detail": "later"})
    server = liar({"GET /v1/jobs": [busy, busy, (200, {}, {"data": []})]})
    desk.url = server.url
    desk.run("status")
    assert len(server.seen) == 3
    server.answers["GET /v1/jobs"] = [(429, {"Retry-After": "3600"}, {"code": "quota.rate", "title": "Too many requests", "detail": "later"})]
    server.seen.clear()
    text = desk.run("status", status=3)                 # an hour is more than its patience: it does not even begin to wait
    assert "[quota.rate]" in text and "--patience" in text and len(server.seen) == 1


# ---- a service that lies ----

@pytest.mark.parametrize("fields, body, code", [
    ({}, b"OTHER", "client.digest_mismatch"), ({}, b"MODEL and more", "client.answer"), ({}, b"MO", "client.answer"),
])
def test_other_bytes_than_announced_are_not_kept(desk, liar, fields, body, code):
    server = liar({**artifacts([artifact(b"MODEL")]), "GET /v1/artifacts/art_1/content": [(200, fields, body)]})
    desk.url = server.url
    text = desk.run("download", "job_01", "--output", "out", status=3)
    assert f"[{code}]" in text
    assert not (desk.folder / "out/model.onnx").exists()


def test_a_part_with_other_bytes_is_found_out(desk, liar):
    (desk.folder / "out").mkdir()
    part = desk.folder / "out" / f".model.onnx.{digest_of(b'MODEL')[7:23]}.part"
    part.write_bytes(b"WRO")
    server = liar({**artifacts([artifact(b"MODEL")]), "GET /v1/artifacts/art_1/content":
                   [(206, {"Content-Range": "bytes 3-4/5"}, b"EL"), (200, {}, b"MODEL")]})
    desk.url = server.url
    assert "[client.digest_mismatch]" in desk.run("download", "job_01", "--output", "out", status=3)
    assert list((desk.folder / "out").iterdir()) == []
    desk.run("download", "job_01", "--output", "out")
    assert (desk.folder / "out/model.onnx").read_bytes() == b"MODEL"


def test_another_range_than_asked_for_is_refused_and_a_whole_answer_taken(desk, liar):
    (desk.folder / "out").mkdir()
    part = desk.folder / "out" / f".model.onnx.{digest_of(b'MODEL')[7:23]}.part"
    part.write_bytes(b"MOD")
    server = liar({**artifacts([artifact(b"MODEL")]), "GET /v1/artifacts/art_1/content":
                   [(206, {"Content-Range": "bytes 0-1/5"}, b"MO"), (200, {}, b"MODEL")]})
    desk.url = server.url
    assert "another range" in desk.run("download", "job_01", "--output", "out", status=3)
    desk.run("download", "job_01", "--output", "out")
    assert (desk.folder / "out/model.onnx").read_bytes() == b"MODEL"


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", ".bashrc", "a/b", "", "x\033[2Jy", ".."])
def test_a_name_that_leads_elsewhere_is_refused(desk, liar, name):
    server = liar({**artifacts([artifact(b"MODEL", name=name)]), "GET /v1/artifacts/art_1/content": [(200, {}, b"MODEL")]})
    desk.url = server.url
    text = desk.run("download", "job_01", "--output", "out", status=3)
    assert "[client.answer]" in text and "\033" not in text
    assert list((desk.folder / "out").iterdir()) == []


@pytest.mark.parametrize("body", [b"<html>Sign in</html>", b"[]", b'{"data": 7}', b'{"data": [7, null, {"id": 3}]}', b"[" * 500])
def test_what_is_no_answer_of_ours_is_no_crash(desk, liar, body):
    desk.url = liar({"GET /v1/jobs": [(200, {}, body)]}).url
    p = desk.start("status")
    out, err = p.communicate(timeout=30)
    assert p.returncode in (0, 3), out + err
    assert p.returncode == 0 or "[client.answer]" in err


def test_a_terminal_is_not_driven_by_names(desk, liar):
    desk.url = liar({"GET /v1/jobs/job_01": [(200, {}, {"id": "job_01", "state": "failed", "problem": {
        "code": "model.op\033]0;x\007", "title": "A\033[31mB", "detail": "C\u009bD", "status": 422}})]}).url
    text = desk.run("status", "job_01")
    assert "\033" not in text and "\007" not in text and "\u009b" not in text and "A?[31mB" in text


# ---- the real quantizer ----

def test_the_example_becomes_a_model_that_onnx_runtime_runs(make_daemon, tmp_path):
    import numpy as np
    from conftest import REPQUANT
    from support import DIGITS, run_theirs
    d = make_daemon(program=REPQUANT)
    desk = Desk(tmp_path, d.url, d.token)
    words = ["submit", DIGITS / "model.onnx", "--calibration", DIGITS / "calib.npz", "--evaluation", DIGITS / "eval.npz"]
    doc = desk.json(*words, "--recipe", "percentile-w8a8", "--wait", "--output", "out")
    assert doc["state"] == "succeeded" and "model.onnx" in [f["name"] for f in doc["files"]]
    for f in doc["files"]:
        assert digest_of((desk.folder / f["path"]).read_bytes()) == f["digest"]
    data = dict(np.load(DIGITS / "eval.npz"))
    labels = data.pop("labels")
    top1 = 100 * float(np.mean(next(iter(run_theirs(desk.folder / "out/model.onnx", data).values())).argmax(-1) == labels))
    assert abs(top1 - doc["result"]["metrics"]["top1"]["quantized"]) < 0.01


def test_a_recipe_that_takes_nothing_from_samples_is_submitted_without_any(make_daemon, tmp_path):
    from conftest import REPQUANT
    from support import DIGITS
    d = make_daemon(program=REPQUANT)
    desk = Desk(tmp_path, d.url, d.token)
    desk.write("free.json", json.dumps({"preset": "zeroquant-w8a8", "attention": {"products": False}, "convolutions": False}))
    doc = desk.json("submit", DIGITS / "model.onnx", "--recipe", "free.json", "--wait", "--output", "out")
    assert doc["state"] == "succeeded" and doc["request"]["dataset_id"] is None and (desk.folder / "out/model.onnx").exists()
    said = desk.run("submit", DIGITS / "model.onnx", "--recipe", "minmax-w8a8", status=1)
    assert "dataset.required" in said and "/recipe/activations/mode" in said


# ---- usage ----

@pytest.mark.parametrize("words, say", [
    (["frobnicate"], "there is no such command"), (["wait"], "argument is missing"), (["wait", "a", "b"], "too many"),
    (["status", "--frob"], "no such option"), (["status", "--follow"], "does not take"), (["submit", "m.onnx"], "--recipe"),
    (["submit", "m.onnx", "--calibration", "x"], "--recipe"), (["wait", "job_../../x"], "not a job's id"), (["wait", "mdl_01"], "not a job's id"),
    (["submit", "m", "--priority", "10"], "from 0 to 9"), (["submit", "m", "--label", "x"], "KEY=VALUE"), (["events", "job_01", "--after"], "wants a value"),
    (["submit", "m", "--calibration", "c", "--recipe", "r", "--output", "o"], "--wait"), (["wait", "job_01", "--token", "rq_x"], "no such option"),
])
def test_usage_is_exit_2_and_says_what_is_wrong(desk, words, say):
    assert say in desk.run(*words, status=2)
    doc = desk.json(*words, status=2) if words != ["events", "job_01", "--after"] else desk.json(*words[:2], "--follow=1", status=2)
    assert doc["code"] == "client.usage" and doc["exit"] == 2


def test_files_that_cannot_be_sent_are_named(desk):
    words = desk.submission()
    (desk.folder / "pictures").mkdir()
    for path, say in (("absent.npz", "No such file"), ("pictures", "zip"), (desk.write("empty.npz", ""), "empty")):
        text = desk.run(*words[:3], path, *words[4:], status=1)
        assert path in text and say in text


def test_help_names_every_command_and_option(desk):
    text = desk.run("--help")
    for word in ("submit", "status", "wait", "events", "download", "cancel", "login", "REPQUANT_URL", "REPQUANT_TOKEN", "EXIT STATUS", "login.json"):
        assert word in text
    assert desk.run("--version").startswith("repquantctl ")
    assert "--follow" in desk.run("events", "--help") and "--recipe" not in desk.run("events", "--help")
