"""The power fails in the middle of uploads: what was acknowledged is there afterwards, again and again on the same data folder.

tests/tools/powercut.c takes back what was not synced. The last test makes it deaf to fsync and wants losses: the others could see one.
"""
import random
import subprocess

import pytest
import requests
from conftest import ROOT, Daemon
from support import SANITIZED, digest_of

pytestmark = pytest.mark.skipif(SANITIZED, reason="sanitizers do not share a process with another preloaded library")
VERSION = {"Tus-Resumable": "1.0.0"}
PART = {**VERSION, "Content-Type": "application/offset+octet-stream"}
LOST = (requests.ConnectionError, requests.Timeout)


@pytest.fixture(scope="session")
def powercut(tmp_path_factory):
    library = tmp_path_factory.mktemp("powercut") / "powercut.so"
    subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC", "-pthread", str(ROOT / "tests/tools/powercut.c"), "-o", str(library), "-ldl"], check=True)
    return library


class Client:
    """Uploads, and keeps the books of what it was told."""

    def __init__(self, daemon, rng):
        self.daemon, self.rng = daemon, rng
        self.open = {}              # path -> (bytes, acknowledged offset)
        self.blobs = {}             # digest -> bytes, acknowledged

    def finished(self, path, data):
        self.open.pop(path, None)
        self.blobs[digest_of(data)] = data

    def work(self):
        """Until the power fails."""
        for _ in range(200):
            what = self.rng.random()
            if what < 0.25 or not self.open:
                self.begin()
            elif what < 0.4:
                data = self.rng.randbytes(self.rng.randrange(1, 3000))
                digest = digest_of(data)
                assert self.daemon("PUT", f"/v1/blobs/{digest}", data=data).status_code == 201
                self.blobs[digest] = data
            elif what < 0.45 and len(self.open) > 1:
                path = self.rng.choice(sorted(self.open))
                self.open.pop(path)
                assert self.daemon("DELETE", path, headers=VERSION).status_code == 204
            else:
                self.go_on(self.rng.choice(sorted(self.open)))

    def begin(self):
        data = self.rng.randbytes(self.rng.randrange(1, 20_000))
        answer = self.daemon("POST", "/v1/uploads", headers={**VERSION, "Upload-Length": str(len(data))})
        assert answer.status_code == 201
        self.open[answer.headers["Location"]] = (data, 0)

    def go_on(self, path):
        data, at = self.open[path]
        end = min(len(data), at + self.rng.randrange(1, 9000))
        answer = self.daemon("PATCH", path, headers={**PART, "Upload-Offset": str(at)}, data=data[at:end])
        assert answer.status_code == 204, answer.text
        self.open[path] = (data, end)
        if end == len(data):
            self.finished(path, data)

    def losses(self):
        """What is not as it was acknowledged.  Takes over what got further than was heard of."""
        lost = [digest for digest, data in self.blobs.items() if self.daemon("GET", f"/v1/blobs/{digest}").content != data]
        for path, (data, at) in list(self.open.items()):
            row = self.daemon("GET", path)
            if row.status_code != 200 or row.json()["offset"] < at:
                lost.append(path)
            elif row.json()["digest"]:
                self.finished(path, data)
            else:
                self.open[path] = (data, row.json()["offset"])
        return lost


def rounds(folder, fake_job, powercut, monkeypatch, n, **environment):
    """n power cuts on one data folder; what was lost, and how many cuts there were."""
    folder.mkdir()
    daemon = Daemon(folder, fake_job, {"uploads": "1000", "keep-free": "0"})
    daemon.start()
    rng = random.Random(folder.name)
    client, lost, cuts = Client(daemon, rng), [], 0
    for seed in range(n):
        daemon.stop()
        for name, value in {"LD_PRELOAD": powercut, "POWERCUT_ROOT": daemon.data, "POWERCUT_AT": rng.randrange(12, 250), "POWERCUT_SEED": seed, **environment}.items():
            monkeypatch.setenv(name, str(value))
        (folder / "port").unlink(missing_ok=True)
        try:
            daemon.start()
            client.work()
            pytest.fail("the power did not fail")
        except LOST:
            pass
        except AssertionError:      # at its start, or an answer that is wrong
            if daemon.process.poll() is None:
                raise
        assert daemon.process.wait(10) == 137
        cuts += 1
        daemon.process = None
        monkeypatch.undo()
        (folder / "port").unlink(missing_ok=True)
        daemon.start()
        lost += client.losses()
        if lost:
            break
        while client.open and rng.random() < 0.3:
            client.go_on(rng.choice(sorted(client.open)))
    daemon.stop()
    return lost, cuts, client


def test_no_power_cut_loses_an_acknowledged_byte(tmp_path, fake_job, powercut, monkeypatch):
    lost, cuts, client = rounds(tmp_path / "honest", fake_job, powercut, monkeypatch, 15)
    assert not lost and cuts == 15
    assert len(client.blobs) > 30


def test_a_disk_that_does_not_sync_is_noticed(tmp_path, fake_job, powercut, monkeypatch):
    lost, _, _ = rounds(tmp_path / "deaf", fake_job, powercut, monkeypatch, 10, POWERCUT_DEAF="1")
    assert lost
