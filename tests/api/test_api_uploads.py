"""Uploads, registration, downloads: what arrives is what is there, and what does not arrive leaves nothing."""
import os
import shutil
import socket
import subprocess

import pytest
from conftest import until
from support import digest_of

NPZ = '#inspect result result.json {"format":"npz","samples":4}\n'


def put(daemon, data):
    answer = daemon("PUT", f"/v1/blobs/{digest_of(data)}", data=data)
    assert answer.status_code in (200, 201), answer.text
    return digest_of(data)


def test_a_blob_comes_back_as_it_was(daemon):
    data = os.urandom(3_000_000)
    path = f"/v1/blobs/{digest_of(data)}"
    first = daemon("PUT", path, data=data)
    assert first.status_code == 201 and first.headers["Location"] == path
    assert daemon("PUT", path, data=data).status_code == 200
    got = daemon("GET", path)
    assert got.content == data
    assert got.headers["ETag"] == f'"{digest_of(data)}"'
    assert got.headers["Content-Type"] == "application/octet-stream"
    assert got.headers["Content-Disposition"].startswith("attachment")
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    head = daemon("HEAD", path)
    assert head.status_code == 200 and head.content == b"" and head.headers["Content-Length"] == str(len(data))


def test_other_bytes_than_announced_are_refused_and_forgotten(daemon):
    path = f"/v1/blobs/{digest_of(b'announced')}"
    answer = daemon("PUT", path, data=b"something else")
    assert answer.status_code == 422 and answer.json()["code"] == "upload.digest_mismatch"
    assert daemon("GET", path).status_code == 404
    assert not daemon.leftovers()


@pytest.mark.parametrize("field, status, span", [
    ("bytes=0-9", 206, (0, 10)), ("bytes=990-", 206, (990, 1000)), ("bytes=-10", 206, (990, 1000)), ("bytes=500-9999", 206, (500, 1000)),
    ("bytes=1000-", 416, None), ("bytes=-0", 416, None), ("bytes=5-2", 200, (0, 1000)), ("bytes=0-0,5-6", 200, (0, 1000)),
    ("bytes=" + "0-," * 1000 + "0-", 200, (0, 1000)), ("lines=0-1", 200, (0, 1000)), ("bytes=-99999999999999999999", 206, (0, 1000)),
])
def test_a_range_gives_exactly_its_bytes(daemon, field, status, span):
    data = bytes(i % 251 for i in range(1000))
    answer = daemon("GET", f"/v1/blobs/{put(daemon, data)}", headers={"Range": field})
    assert answer.status_code == status
    if span:
        assert answer.content == data[span[0]:span[1]]
    else:
        assert answer.headers["Content-Range"] == "bytes */1000" and answer.json()["code"] == "request.range"
    if status == 206:
        assert answer.headers["Content-Range"] == f"bytes {span[0]}-{span[1] - 1}/1000"


def test_validators_save_the_transfer_and_guard_the_range(daemon):
    path = f"/v1/blobs/{put(daemon, b'x' * 1000)}"
    etag = daemon("HEAD", path).headers["ETag"]
    unchanged = daemon("GET", path, headers={"If-None-Match": f'"other", {etag}'})
    assert unchanged.status_code == 304 and unchanged.content == b""
    assert daemon("GET", path, headers={"Range": "bytes=0-1", "If-Range": etag}).status_code == 206
    assert daemon("GET", path, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).status_code == 200


def test_a_model_of_several_files_is_registered_and_deleted(daemon):
    body = {"name": "big", "format": "onnx", "files": [{"path": "model.onnx", "digest": put(daemon, b"graph")},
                                                       {"path": "weights.bin", "digest": put(daemon, b"weights")}]}
    answer = daemon("POST", "/v1/models", json=body)
    assert answer.status_code == 201, answer.text
    model = answer.json()
    assert [f["path"] for f in model["files"]] == ["model.onnx", "weights.bin"]
    assert daemon("GET", answer.headers["Location"]).json() == model
    assert model["id"] in [m["id"] for m in daemon("GET", "/v1/models?limit=200").json()["data"]]
    assert daemon("DELETE", answer.headers["Location"]).status_code == 204
    assert daemon("GET", answer.headers["Location"]).status_code == 404
    assert daemon("DELETE", answer.headers["Location"]).status_code == 404


def test_what_the_child_refuses_is_not_registered(daemon):
    before = len(daemon("GET", "/v1/models?limit=200").json()["data"])
    answer = daemon("PUT", "/v1/models?name=bad", data=b"#inspect problem model.unsupported_op no Frob\n")
    assert answer.status_code == 422
    assert answer.json()["code"] == "model.unsupported_op" and "Frob" in answer.json()["detail"]
    assert len(daemon("GET", "/v1/models?limit=200").json()["data"]) == before


def test_a_child_that_crashes_while_it_looks_is_our_failure_and_tells_no_secrets(daemon):
    answer = daemon("PUT", "/v1/models?name=crash", data=b"#inspect crash\n")
    assert answer.status_code >= 422
    assert str(daemon.data) not in answer.text
    assert daemon("GET", "/healthz").status_code == 200


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("target, name", [("/v1/datasets?name=calib", "calib"), ("/v1/datasets/", "calib.npz")])
def test_curl_uploads_and_registers_in_one_step(daemon, tmp_path, target, name):
    file = tmp_path / "calib.npz"
    file.write_text(NPZ)
    out = subprocess.run(["curl", "-sS", "-w", " %{http_code}", "-H", f"Authorization: Bearer {daemon.token}", "-T", str(file), daemon.url + target],
                         capture_output=True, text=True, timeout=30)
    assert out.stdout.endswith(" 201"), out
    assert f'"name":"{name}"' in out.stdout and '"format":"npz"' in out.stdout


def test_a_chunked_upload_needs_no_length(daemon):
    answer = daemon("PUT", "/v1/datasets?name=streamed", data=iter([NPZ.encode(), b"x" * 100_000]))
    assert answer.status_code == 201 and answer.json()["bytes"] == len(NPZ) + 100_000


def begin(daemon, head, body=b""):
    s = socket.create_connection(("127.0.0.1", daemon.port), timeout=15)
    s.sendall(f"PUT /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {daemon.token}\r\n{head}\r\n\r\n".encode() + body)
    return s


@pytest.mark.parametrize("head, status", [
    ("Content-Length: 1099511627776", b"413"),
    ("Content-Length: 1099511627776\r\nExpect: 100-continue", b"413"),
    ("Content-Length: 9\r\nContent-Encoding: gzip", b"415"),
    ("Content-Length: 9\r\nContent-Type: multipart/form-data; boundary=x", b"415"),
    ("X: y", b"411"),
])
def test_a_refusal_comes_before_the_body(daemon, head, status):
    with begin(daemon, head) as s:
        answer = s.recv(65536)
    assert answer.split(b" ")[1] == status and b"100 Continue" not in answer


def test_a_chunked_body_over_the_limit_is_refused_at_its_end(daemon):
    answer = daemon("PUT", "/v1/models", data=iter([b"x" * 65536] * 264))        # 16.5 MiB; the limit is 16
    assert answer.status_code == 413
    until(lambda: not daemon.leftovers(), what="the removal of the refused upload")


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    s.close()


def half_close(s):
    """No more is to come, but whoever does so still listens; the other side ends it."""
    s.shutdown(socket.SHUT_WR)
    answer = s.recv(65536)
    assert answer == b"", answer
    s.close()


def reserved(daemon):
    """Bytes that uploads and jobs have of the team's quota and of the disk."""
    quota = daemon("GET", "/v1/teams/local").json()["used"]["bytes"]
    return quota, sum(p.stat().st_blocks for p in (daemon.data / "blobs").rglob("*"))


@pytest.mark.parametrize("sent", [0, 1, *range(65536, 2_000_000, 5 * 65536)])
@pytest.mark.parametrize("end", [socket.socket.close, reset, half_close], ids=["close", "reset", "half-close"])
def test_an_upload_that_breaks_off_leaves_nothing(daemon, sent, end):
    before, models = reserved(daemon), daemon("GET", "/v1/models?limit=200").json()
    s = begin(daemon, "Content-Length: 2000000", b"x" * sent)
    until(daemon.leftovers, what="the upload's file")
    assert reserved(daemon)[1] > before[1]                      # there is something to give back
    end(s)
    until(lambda: not daemon.leftovers(), what="the removal of the unfinished upload")
    until(lambda: reserved(daemon) == before, what="the return of its part of the quota")
    assert daemon("GET", "/v1/models?limit=200").json() == models


def test_a_model_a_waiting_job_uses_cannot_be_deleted(make_daemon):
    daemon = make_daemon(workers="1")
    running = daemon.job("hang")
    until(lambda: daemon("GET", f"/v1/jobs/{running['id']}").json()["state"] == "running", what="the first job's start")
    waiting = daemon.job()
    answer = daemon("DELETE", f"/v1/models/{waiting['request']['model_id']}")
    assert answer.status_code == 409 and answer.json()["code"] == "resource.conflict"
