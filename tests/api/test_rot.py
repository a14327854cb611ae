"""Bytes that are altered on the disk: found by a job, a download and the scrubber, given to nobody, and healed by an upload or the job run again."""
import base64
import json
import sqlite3

import pytest
from conftest import until
from support import digest_of
from test_metrics import value

RESULT = "result model.onnx MODEL"


def rot(daemon, digest):
    """One bit, as a disk would."""
    path = daemon.blob(digest)
    path.chmod(0o600)
    with open(path, "r+b") as file:
        first = file.read(1)[0]
        file.seek(0)
        file.write(bytes([first ^ 1]))
    path.chmod(0o400)


def is_corrupt(answer):
    assert answer.headers["Content-Type"] == "application/problem+json", answer.content
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["retryable"]) == (410, "storage.corrupt", False)
    assert problem["detail"].startswith("the stored bytes of sha256:") and "upload them again" in problem["detail"]
    return True


@pytest.fixture
def one(make_daemon):
    """A daemon, and what a job with a model and a data set would be."""
    d = make_daemon()
    return d, d.inputs(RESULT)


def test_a_job_that_meets_rot_ends_at_once_and_an_upload_heals(one):
    d, wish = one
    script = f"#quantize {RESULT}\n".encode()
    digest = digest_of(script)
    model = f"/v1/models/{wish['model_id']}"
    assert d("GET", model).json()["corrupt"] is False
    before = d.job("hang")
    job = d("POST", "/v1/jobs", json=wish).json()
    rot(d, digest)
    d("POST", before["urls"]["cancel"])
    job = d.ended(job["id"])
    assert (job["state"], job["attempt"], job["problem"]["code"], job["problem"]["retryable"]) == ("failed", 1, "storage.corrupt", False)
    assert digest in job["problem"]["detail"] and d("GET", f"/v1/jobs/{job['id']}/artifacts").json()["data"] == []
    told = d("GET", model).json()
    assert told["corrupt"] is True and told["files"][0]["corrupt"] is True and [m["corrupt"] for m in d("GET", "/v1/models").json()["data"]] == [False, True]
    assert d("GET", f"/v1/datasets/{wish['dataset_id']}").json()["corrupt"] is False
    assert value(d, "repquant_blobs_rotted_total") == 1 == value(d, "repquant_blobs_corrupt")
    is_corrupt(d("GET", f"/v1/blobs/{digest}"))
    is_corrupt(d("POST", "/v1/models", json={"name": "again", "digest": digest}))
    is_corrupt(d("POST", "/v1/jobs", json=wish))
    again = d("PUT", f"/v1/blobs/{digest}", data=script)
    assert again.status_code == 200 and d("GET", model).json()["corrupt"] is False
    assert d.blob(digest).read_bytes() == script == d("GET", f"/v1/blobs/{digest}").content
    assert d.ended(d("POST", "/v1/jobs", json=wish).json()["id"])["state"] == "succeeded"
    assert value(d, "repquant_blobs_rotted_total") == 1 and value(d, "repquant_blobs_corrupt") == 0


@pytest.mark.parametrize("how", ["expect", "tus", "model"])
def test_what_has_rotted_is_not_taken_for_bytes_that_are_there(one, how):
    d, _ = one
    script = f"#quantize {RESULT}\n".encode()
    digest = digest_of(script)
    rot(d, digest)
    is_corrupt(d("GET", f"/v1/blobs/{digest}?verify=1"))
    if how == "expect":
        head = (f"PUT /v1/blobs/{digest} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {d.token}\r\nContent-Length: {len(script)}\r\n"
                "Expect: 100-continue\r\nConnection: close\r\n\r\n").encode()
        answer = d.raw(head + script)
        assert b" 100 Continue\r\n" in answer and b"HTTP/1.1 200 " in answer
    elif how == "tus":
        told = base64.b64encode(digest[7:].encode()).decode()
        begun = d("POST", "/v1/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": str(len(script)), "Upload-Metadata": f"sha256 {told}"})
        assert begun.status_code == 201 and begun.headers["Upload-Offset"] == "0"
        sent = d("PATCH", begun.headers["Location"], data=script,
                 headers={"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"})
        assert sent.status_code == 204 and sent.headers["Blob-Digest"] == digest
    else:
        assert d("PUT", "/v1/models", params={"name": "again"}, data=script).status_code == 201
    assert d("GET", f"/v1/blobs/{digest}").content == script


def test_an_artifact_that_rots_is_gone_until_the_job_runs_again(one):
    d, wish = one
    wish["dedupe"] = "reuse"
    first = d.ended(d("POST", "/v1/jobs", json=wish).json()["id"])
    listed = d("GET", f"/v1/jobs/{first['id']}/artifacts").json()["data"]
    artifact = next(a for a in listed if a["name"] == "model.onnx")
    content = artifact["urls"]["content"]
    assert artifact["corrupt"] is False and d("GET", content).content == d("GET", content, params={"verify": 1}).content == b"MODEL"
    assert d("GET", content, params={"verify": "yes"}).json()["code"] == "request.invalid"
    assert d("POST", "/v1/jobs", json=wish).json()["id"] == first["id"]
    rot(d, artifact["digest"])
    assert d("GET", content).status_code == 200, "nobody has looked"
    is_corrupt(d("GET", content, params={"verify": 1}))
    is_corrupt(d("GET", content))
    assert d("HEAD", content).status_code == 410
    assert d("GET", f"/v1/artifacts/{artifact['id']}").json()["corrupt"] is True
    second = d.ended(d("POST", "/v1/jobs", json=wish).json()["id"])
    assert second["id"] != first["id"] and second["state"] == "succeeded"
    assert d("GET", content).content == b"MODEL" and d("GET", f"/v1/artifacts/{artifact['id']}").json()["corrupt"] is False


def test_the_scrubber_finds_it_without_being_asked(one):
    d, wish = one
    digest = d("GET", f"/v1/datasets/{wish['dataset_id']}").json()["digest"]
    assert d.stop() == 0
    rot(d, digest)
    with sqlite3.connect(d.data / "repquant.db") as db:
        db.execute("UPDATE blobs SET checked_at = 1 WHERE digest = ?", (digest,))
    d.options["scrub-days"] = "0"
    d.start()
    assert d.stop() == 0
    with sqlite3.connect(d.data / "repquant.db") as db:
        assert db.execute("SELECT checked_at, corrupt_at FROM blobs WHERE digest = ?", (digest,)).fetchone() == (1, 0)
    d.options["scrub-days"] = "7"
    d.start()
    until(lambda: value(d, "repquant_blobs_corrupt") == 1, what="the mark")
    assert d("GET", f"/v1/datasets/{wish['dataset_id']}").json()["corrupt"] is True
    told = until(lambda: [json.loads(line) for line in d.log.read_text().splitlines() if "store.scrub" in line], what="the line that tells of it")
    assert len(told) == 1 and told[0]["level"] == "error" and digest in json.dumps(told[0])
    assert d.stop() == 0
    with sqlite3.connect(d.data / "repquant.db") as db:
        assert db.execute("SELECT min(checked_at) > 1 FROM blobs").fetchone() == (1,)
