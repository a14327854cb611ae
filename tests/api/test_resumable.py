"""Resumable uploads: a real tus client whose connection breaks, a daemon that is killed, a disk that is full."""
import base64
import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest
import requests
from conftest import Daemon, until
from support import Listener, digest_of
from tusclient import client as tus

VERSION = {"Tus-Resumable": "1.0.0"}
PART = {**VERSION, "Content-Type": "application/offset+octet-stream"}


class BreakingProxy(Listener):
    """A proxy on a free port that cuts each connection after as many bytes from the client as `cuts` says, while it says."""

    def __init__(self, port, cuts):
        self.target, self.cuts, self.cut = port, list(cuts), 0
        super().__init__()

    def carry(self, client):
        server = socket.create_connection(("127.0.0.1", self.target))
        threading.Thread(target=self.back, args=(server, client), daemon=True).start()
        passed, limit = 0, None
        while data := self.read(client):
            if limit is None and data.startswith(b"PATCH"):
                limit = self.cuts.pop(0) if self.cuts else -1
            if limit not in (None, -1) and passed + len(data) > limit:
                server.sendall(data[:limit - passed])
                self.cut += 1
                for s in (client, server):
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    s.close()
                return
            passed += len(data)
            server.sendall(data)
        server.close()

    @staticmethod
    def read(s):
        try:
            return s.recv(65536)
        except OSError:
            return b""

    def back(self, server, client):
        while data := self.read(server):
            try:
                client.sendall(data)
            except OSError:
                return
        client.close()


def begin(daemon, length, **fields):
    answer = daemon("POST", "/v1/uploads", headers={**VERSION, "Upload-Length": str(length), **fields})
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def patch(daemon, path, offset, data, **fields):
    return daemon("PATCH", path, headers={**PART, "Upload-Offset": str(offset), **fields}, data=data)


def offset_of(daemon, path):
    answer = daemon("HEAD", path, headers=VERSION)
    assert answer.status_code == 200
    return int(answer.headers["Upload-Offset"])


def test_a_tus_client_goes_on_after_its_connection_broke(daemon, tmp_path):
    data = random.Random(0).randbytes(5_000_000)
    (tmp_path / "model.onnx").write_bytes(data)
    proxy = BreakingProxy(daemon.port, [300_000, 1_000, 700_001, 65_536])
    session = tus.TusClient(f"http://127.0.0.1:{proxy.port}/v1/uploads", headers={"Authorization": f"Bearer {daemon.token}"})
    uploader = session.uploader(str(tmp_path / "model.onnx"), metadata={"filename": "model.onnx"}, retries=8, retry_delay=0)
    uploader.upload()
    proxy.close()
    assert proxy.cut == 4 and uploader.offset == len(data)
    path = "/v1/uploads/" + uploader.url.rsplit("/", 1)[1]
    row = daemon("GET", path).json()
    assert row["digest"] == digest_of(data) and row["offset"] == len(data)
    assert daemon("GET", f"/v1/blobs/{row['digest']}").content == data
    assert daemon("HEAD", path, headers=VERSION).headers["Blob-Digest"] == digest_of(data)


def test_a_tus_client_in_chunks_with_checksums(daemon, tmp_path):
    data = random.Random(1).randbytes(1_000_001)
    (tmp_path / "f").write_bytes(data)
    session = tus.TusClient(daemon.url + "/v1/uploads", headers={"Authorization": f"Bearer {daemon.token}"})
    uploader = session.uploader(str(tmp_path / "f"), chunk_size=100_000, upload_checksum=True)
    uploader.upload()
    assert daemon("GET", f"/v1/blobs/{digest_of(data)}").content == data


def test_a_break_keeps_what_arrived_and_a_wrong_checksum_nothing(daemon):
    data = os.urandom(400_000)
    path = begin(daemon, len(data))
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    answer = patch(daemon, path, 0, data[:1000], **{"Upload-Checksum": f"sha256 {wrong}"})
    assert answer.status_code == 460 and answer.json()["code"] == "upload.checksum_mismatch"
    assert offset_of(daemon, path) == 0
    head = (f"PATCH {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {daemon.token}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
            f"Content-Type: application/offset+octet-stream\r\nContent-Length: {len(data)}\r\n\r\n")
    with socket.create_connection(("127.0.0.1", daemon.port)) as s:
        s.sendall(head.encode() + data[:300_000])
        # The connection stays open: whoever asks takes over, and the old one cannot go on.
        until(lambda: requests.head(daemon.url + path, headers={**VERSION, **daemon.session.headers}).headers["Upload-Offset"] == "300000",
              what="all that was sent")
        assert patch(daemon, path, 300_000, data[300_000:]).status_code == 204
        s.sendall(data[300_000:])
        assert b" 409 " in s.recv(65536).split(b"\r\n")[0]
    assert daemon("GET", f"/v1/blobs/{digest_of(data)}").content == data


def test_what_was_acknowledged_survives_kill_9(make_daemon):
    daemon = make_daemon()
    rng = random.Random(7)
    data = rng.randbytes(3_000_000)
    path = begin(daemon, len(data))
    known = 0
    for _ in range(8):
        end = min(len(data) - 1, known + rng.randrange(1, 500_000))
        answer = patch(daemon, path, known, data[known:end])
        assert answer.status_code == 204 and int(answer.headers["Upload-Offset"]) == end
        known = end
        unfinished = threading.Thread(target=lambda: patch_and_lose(daemon.port, daemon.token, path, known, data[known:]))
        unfinished.start()
        unfinished.join(rng.random() * 0.02)
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait()
        unfinished.join()
        daemon.process = None
        (daemon.folder / "port").unlink()
        daemon.start()
        now = offset_of(daemon, path)
        assert now >= known
        known = now
        if known == len(data):
            break
    if known < len(data):
        assert patch(daemon, path, known, data[known:]).status_code == 204
    assert daemon("GET", f"/v1/blobs/{digest_of(data)}").content == data


def patch_and_lose(port, token, path, offset, data):
    try:
        requests.patch(f"http://127.0.0.1:{port}{path}", data=data, timeout=10,
                       headers={**PART, "Upload-Offset": str(offset), "Authorization": f"Bearer {token}"})
    except requests.RequestException:
        pass


def test_abandoned_uploads_expire_and_a_team_has_a_bound(make_daemon):
    daemon = make_daemon(uploads="2", upload_expiry="1")
    paths = [begin(daemon, 10), begin(daemon, 10)]
    answer = daemon("POST", "/v1/uploads", headers={**VERSION, "Upload-Length": "10"})
    assert answer.status_code == 403 and answer.json()["code"] == "quota.exceeded"
    until(lambda: daemon("HEAD", paths[1], headers=VERSION).status_code == 404, what="the end of the upload")
    begin(daemon, 10)
    assert daemon("DELETE", begin(daemon, 10), headers=VERSION).status_code == 204
    until(lambda: len(list((daemon.data / "blobs").glob("upl_*"))) <= 1, what="the removal of what was abandoned")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting a small tmpfs failed: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def on_small_disk(small_disk, tmp_path, fake_job):
    """A daemon to be started, with its data there and no sandbox, so that its jobs can wait for a file of the test's."""
    folder = tmp_path / "daemon"
    folder.mkdir()
    daemon = Daemon(folder, fake_job, {"keep-free": "4M", "max-upload": "1G", "workers": "2", "sandbox": "off"})
    daemon.data = small_disk / "data"
    daemon.options["data"] = str(daemon.data)
    yield daemon
    daemon.stop()


def readiness(daemon):
    answer = daemon("GET", "/readyz")
    assert answer.status_code == (200 if answer.json()["ready"] else 503)
    return answer.status_code, answer.json()["checks"]["disk"]


def test_a_full_disk_refuses_early_loses_nothing_and_recovers(small_disk, on_small_disk):
    daemon = on_small_disk.start()
    model = daemon.upload("models", "#quantize\n", name="small")
    kept = os.urandom(8 << 20)
    assert daemon("PUT", f"/v1/blobs/{digest_of(kept)}", data=kept).status_code == 201
    path = begin(daemon, 20 << 20)                             # its space is taken now
    answer = daemon("PUT", "/v1/blobs/sha256:" + "0" * 64, data=b"x" * (30 << 20))
    assert answer.status_code == 507 and answer.json()["code"] == "resource.disk"
    refused = daemon("POST", "/v1/uploads", headers={**VERSION, "Upload-Length": str(30 << 20)})
    assert refused.status_code == 507
    try:                                                       # of unknown length: refused where it gets too long, perhaps with a cut
        assert daemon("PUT", "/v1/models?name=chunked", data=iter([b"x" * (1 << 20)] * 40)).status_code == 507
    except requests.ConnectionError:
        until(lambda: re.search(r'"path":"/v1/models",.*"end":"cut"', daemon.log.read_text()), what="the cut in the log")
    part = os.urandom(20 << 20)
    assert patch(daemon, path, 0, part).status_code == 204     # what was promised holds
    assert daemon("GET", f"/v1/blobs/{digest_of(kept)}").content == kept
    assert daemon("GET", f"/v1/models/{model['id']}").status_code == 200
    big = begin(daemon, int(shutil.disk_usage(small_disk).free - (5 << 20)))
    assert readiness(daemon) == (200, "ok")                    # a MiB is left behind what is kept free
    assert daemon("DELETE", big, headers=VERSION).status_code == 204
    again = begin(daemon, 20 << 20)                            # without a restart
    assert daemon("DELETE", again, headers=VERSION).status_code == 204
    assert not daemon.leftovers()
    assert daemon("GET", f"/v1/blobs/{digest_of(part)}").content == part


def take_all_there_is(daemon):
    """Uploads that were accepted until not a byte more was; the last refusal is checked."""
    paths, size = [], 32 << 20
    while size:
        answer = daemon("POST", "/v1/uploads", headers={**VERSION, "Upload-Length": str(size)})
        if answer.status_code == 201:
            paths.append(answer.headers["Location"])
        else:
            assert answer.status_code == 507 and answer.json()["code"] == "resource.disk", answer.text
            size //= 2
    return paths


def fill(path):
    """Takes what its file system has, to the last page."""
    with open(path, "ab") as f:
        with contextlib.suppress(OSError):
            while True:
                os.posix_fallocate(f.fileno(), os.fstat(f.fileno()).st_size, 4096)


def ends_as(daemon, job, state):
    ended = daemon.ended(job["id"])
    assert ended["state"] == state, ended["problem"]
    return ended, daemon("GET", f"/v1/jobs/{job['id']}/artifacts").json()["data"]


def test_jobs_and_a_disk_that_fills_while_they_run_and_wait(small_disk, on_small_disk, tmp_path):
    """First by uploads, up to what is promised and kept free; then to its last byte by another program."""
    d, go = on_small_disk, [tmp_path / "go-1", tmp_path / "go-2"]
    d.options["keep-free"] = "12M"                             # more than the ballast, as the default is: what that gives back is for ends alone
    pid = d.start().process.pid

    def state(job):
        return d("GET", f"/v1/jobs/{job['id']}").json()["state"]

    assert readiness(d) == (200, "ok")
    running = [d.job(f"stage preparing; await {path}; result model.onnx {'M' * 2000}", max_attempts=1) for path in go]
    until(lambda: [state(job) for job in running] == ["running"] * 2, what="both jobs' start")
    waiting, next_ = d.job("await /nothing"), d.job("await /nothing")
    body = d.inputs("result model.onnx MODEL")
    assert state(waiting) == "queued"
    uploads = take_all_there_is(d)
    until(lambda: readiness(d) == (503, "low"), 5, "readiness to hear of it: a good verdict is kept for a second")
    refused = d("POST", "/v1/jobs", json=body)
    assert refused.status_code == 507 and refused.json()["code"] == "resource.disk", refused.text
    canceled = d("POST", f"/v1/jobs/{waiting['id']}/cancel")
    assert canceled.status_code == 202 and canceled.json()["state"] == "canceled"
    assert ends_as(d, waiting, "canceled")[1] == []
    go[0].touch()
    artifact = ends_as(d, running[0], "succeeded")[1][0]       # it was promised the space
    assert d("GET", f"/v1/artifacts/{artifact['id']}/content").content == b"M" * 2000
    until(lambda: state(next_) == "running", what="the next job's start")

    other = small_disk / "other"
    fill(other)
    assert shutil.disk_usage(small_disk).free == 0
    go[1].touch()
    ended, artifacts = ends_as(d, running[1], "failed")        # at once, written into what is kept for that
    assert artifacts == [] and ended["problem"]["code"] == "worker.lost" and "status 3" in ended["problem"]["detail"], ended["problem"]
    assert readiness(d) == (503, "low")
    assert d("POST", "/v1/jobs", json=body).status_code == 507
    assert d("GET", f"/v1/artifacts/{artifact['id']}/content").content == b"M" * 2000
    assert d("POST", f"/v1/jobs/{next_['id']}/cancel").status_code == 202
    assert ends_as(d, next_, "canceled")[1] == []
    assert d("DELETE", f"/v1/jobs/{waiting['id']}").status_code == 204

    other.unlink()
    assert readiness(d) == (200, "ok")
    for path in uploads:
        assert d("DELETE", path, headers=VERSION).status_code == 204
    assert d.process.pid == pid and d.process.poll() is None
    again = d("POST", "/v1/jobs", json=body)
    assert again.status_code == 202 and len(ends_as(d, again.json(), "succeeded")[1]) == 1
    assert not d.leftovers() and not any((d.data / "scratch").iterdir())
    assert d.stop() == 0
