"""A session with the daemon and its quantizer under valgrind: no errors and no definite leaks, from the start to SIGTERM.

`make valgrind-session` builds the programs for it (build/valgrind) and runs this; `make valgrind` does the same with the unit tests.
"""
import json
import os
import pathlib
import shlex

import numpy as np
import pytest
import requests
from conftest import REPQUANT, REPQUANTD, ROOT, Daemon, until
from receiver import Receiver, certificate
from support import DIGITS, digest_of, load, run_theirs

PRELOADED = pathlib.Path(REPQUANTD).parent / "tools" / "children.so"
SECONDS = 300           # for what takes one without valgrind


def watched(folder, program):
    """A script that runs the program under valgrind, which writes into folder/NAME.PID what it finds, and nothing if it finds nothing."""
    script = folder / pathlib.Path(program).name
    command = ["/usr/bin/valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite",
               "--fair-sched=yes", f"--suppressions={ROOT}/tests/valgrind/suppressions", f"--log-file={script}.%p", program]
    script.write_text(f'#!/bin/sh\nexport LD_PRELOAD={PRELOADED}\nexec {shlex.join(command)} "$@"\n')
    script.chmod(0o755)
    return script


def findings(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.suffix[1:].isdigit()}


class Watched(Daemon):
    """Takes its time, and is ended with its children's reports written."""

    def launch(self):
        super().launch()
        until(lambda: (self.folder / "port").exists() or self.process.poll() is not None, SECONDS, "listening")

    def __call__(self, method, path, **more):
        return super().__call__(method, path, timeout=SECONDS, **more)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    return tmp_path_factory.mktemp("valgrind")


@pytest.fixture(scope="module")
def receiver(reports):
    certificate(reports)
    r = Receiver(reports)
    yield r
    r.end()


@pytest.fixture
def daemon(tmp_path_factory, reports, receiver, monkeypatch):
    """Nothing of valgrind's own fits into what a job may have: its memory, files beside the scratch folder, a program that is started."""
    monkeypatch.setattr("conftest.REPQUANTD", str(watched(reports, REPQUANTD)))
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Sandybridge")     # see Makefile
    slow = {"silence-timeout": SECONDS, "inspect-timeout": SECONDS, "webhook-timeout": 60, "webhook-retries": "0,1,1,1,1,1,1,1,1", "drain": SECONDS}
    d = Watched(tmp_path_factory.mktemp("daemon"), watched(reports, REPQUANT),
                {"address-space": 2**63 - 1, "sandbox": "off", "outbound-private": "127.0.0.1/32,::1", "outbound-ca": reports / "cert", **slow})
    d.start()
    yield d
    d.stop(SECONDS)


def few(folder, name, count):
    """The first samples of the example's."""
    path = folder / f"{name}.npz"
    np.savez_compressed(path, **{key: array[:count] for key, array in load(DIGITS / f"{name}.npz").items()})
    return path.read_bytes()


def put(daemon, kind, content):
    answer = daemon("PUT", f"/v1/{kind}", params={"name": "digits"}, data=content)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def uploaded_in_parts(daemon, content):
    """The blob of an upload by the tus protocol, in two requests."""
    half = len(content) // 2
    version = {"Tus-Resumable": "1.0.0"}
    made = daemon("POST", "/v1/uploads", headers={**version, "Upload-Length": str(len(content))})
    assert made.status_code == 201, made.text
    for at, part in (0, content[:half]), (half, content[half:]):
        answer = daemon("PATCH", made.headers["Location"].removeprefix(daemon.url), data=part,
                        headers={**version, "Upload-Offset": str(at), "Content-Type": "application/offset+octet-stream"})
        assert answer.status_code == 204, answer.text
    assert answer.headers["Blob-Digest"] == digest_of(content)
    return answer.headers["Blob-Digest"]


def refusals(daemon, model, data):
    """What is wrong takes other ways through the daemon and its children."""
    for status, method, path, more in [
            (404, "GET", "/v1/models/mdl_01ARZ3NDEKTSV4RRFFQ69G5FAV", {}), (404, "GET", "/nowhere", {}), (405, "PUT", "/v1/jobs", {}),
            (400, "POST", "/v1/jobs", {"data": "{\"type\": ", "headers": {"Content-Type": "application/json"}}),
            (422, "POST", "/v1/jobs", {"json": {"type": "quantize", "model_id": model, "dataset_id": data, "recipe": "none-of-ours"}}),
            (409, "POST", "/v1/recipes", {"json": {"name": "minmax-w8a8", "recipe": "minmax-w8a8"}}), (404, "DELETE", "/v1/recipes/none", {}),
            (422, "PUT", "/v1/models?name=broken", {"data": (DIGITS / "model.onnx").read_bytes()[:20000]}),
            (422, "PUT", "/v1/datasets?name=broken", {"data": b"PK\3\4 no zip"})]:
        answer = daemon(method, path, **more)
        assert answer.status_code == status and answer.json()["code"], f"{method} {path}: {answer.status_code} {answer.text}"
    assert requests.get(daemon.url + "/v1/jobs", headers={"Authorization": "Bearer rq_wrong"}, timeout=SECONDS).status_code == 401


def followed(daemon, job):
    """The types of a job's events, as a stream tells them until the job has ended."""
    with daemon("GET", f"/v1/jobs/{job}/events", headers={"Accept": "text/event-stream"}, stream=True) as answer:
        return [line.removeprefix("event: ") for line in answer.iter_lines(decode_unicode=True) if line.startswith("event: ")]


def looked_at(daemon, job):
    for path in ["/", "/readyz", "/metrics", "/v1/openapi.json", "/v1/capabilities", "/v1/queue", "/v1/queue/history", "/v1/recipes/repquant-w4a4",
                 "/v1/recipes/ours", "/v1/whoami",
                 "/v1/audit", "/v1/jobs?state=succeeded&limit=1", f"/v1/jobs/{job}", f"/v1/jobs/{job}/logs", f"/v1/jobs/{job}/events?limit=20",
                 f"/v1/jobs/{job}/layers?sort=accumulated_sqnr_db&order=asc", f"/v1/jobs/{job}/layers/0/details", f"/v1/jobs/{job}/report?format=html",
                 f"/v1/jobs/{job}/report?format=csv"]:
        answer = daemon("GET", path)
        assert answer.status_code == 200 and answer.content, f"{path}: {answer.status_code} {answer.text}"


def recipe_saved(daemon):
    """The name of a recipe that is saved, and saved again."""
    statuses = [daemon("POST", "/v1/recipes", json={"name": "ours", "recipe": {"preset": "minmax-w8a8", "exclude": ["*head*"]}}).status_code for _ in range(2)]
    assert statuses == [201, 200] and daemon("GET", "/v1/recipes").json()["data"][-1]["name"] == "ours"
    return "ours"


def artifact(daemon, job):
    """The quantized model, which comes in two ranges."""
    row = next(r for r in daemon("GET", f"/v1/jobs/{job}/artifacts").json()["data"] if r["name"] == "model.onnx")
    parts = [daemon("GET", f"/v1/artifacts/{row['id']}/content", headers={"Range": f"bytes={part}"}) for part in ("0-999", "1000-")]
    assert [p.status_code for p in parts] == [206, 206]
    content = b"".join(p.content for p in parts)
    assert row["digest"] == digest_of(content)
    return content


@pytest.mark.long
@pytest.mark.skipif(not PRELOADED.exists(), reason="make valgrind-session builds for this")
def test_a_session_under_valgrind(daemon, receiver, reports, tmp_path):
    calib, evaluation = few(tmp_path, "calib", 8), few(tmp_path, "eval", 8)
    digest = uploaded_in_parts(daemon, (DIGITS / "model.onnx").read_bytes())
    answer = daemon("POST", "/v1/models", json={"name": "digits", "files": [{"path": "model.onnx", "digest": digest}]})
    assert answer.status_code == 201, answer.text
    model, data = answer.json()["id"], put(daemon, "datasets", calib)
    refusals(daemon, model, data)
    assert daemon("POST", f"/v1/datasets/{data}/validations", json={"model_id": model}).json()["ok"]
    made = daemon("POST", "/v1/webhooks", json={"url": f"{receiver.url}/hook/503,200", "events": ["job.succeeded"]})
    assert made.status_code == 201, made.text

    body = {"type": "quantize", "model_id": model, "dataset_id": data, "eval_dataset_id": put(daemon, "datasets", evaluation), "recipe": "repquant-w4a8"}
    assert daemon("POST", "/v1/jobs", params={"dry_run": "true"}, json=body).status_code == 200
    answer = daemon("POST", "/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    job = answer.json()["id"]
    waiting = daemon("POST", "/v1/jobs", json={**body, "recipe": recipe_saved(daemon)}).json()["id"]
    assert daemon("POST", f"/v1/jobs/{waiting}/cancel").status_code in (200, 202)
    types = followed(daemon, job)
    assert "job.layer_completed" in types and types[-1] == "job.succeeded", f"{types[-5:]}: {daemon('GET', f'/v1/jobs/{job}').text}"
    assert len(receiver.got("/hook/503,200", 2, SECONDS)) == 2
    looked_at(daemon, job)
    (tmp_path / "quantized.onnx").write_bytes(artifact(daemon, job))
    logits = run_theirs(tmp_path / "quantized.onnx", {"pixel_values": load(DIGITS / "eval.npz")["pixel_values"][:8]})
    assert all(np.isfinite(x).all() for x in logits.values())
    assert daemon("DELETE", f"/v1/jobs/{waiting}").status_code == daemon("DELETE", "/v1/recipes/ours").status_code == 204

    assert daemon.stop(SECONDS) == 0
    found = findings(reports)
    assert len(found) > 5 and not any(found.values()), "\n".join(found.values())
