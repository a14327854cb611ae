"""The n-th call of a class fails, once or from then on, in 32 scenarios: the daemon lives or stops for a restart, and keeps what it has acknowledged.

tests/fault/nth.c is preloaded and told through a shared page. `make test` tries one point of each scenario and class; test-long all of them, and a
sample with AddressSanitizer, whose leak detector looks at each end of a daemon: the fixture no_report then fails the test.
"""
import contextlib
import errno
import hashlib
import json
import mmap
import os
import random
import socket
import sqlite3
import struct
import subprocess
import time

import pytest
import requests
from conftest import SANITIZER, Daemon, preloaded, until

pytestmark = pytest.mark.skipif(SANITIZER == "tsan", reason="ThreadSanitizer takes no other library before its own")
ASAN = SANITIZER == "asan"
CLASSES = {"memory": errno.ENOMEM, "open": errno.EMFILE, "write": errno.ENOSPC, "sync": errno.EIO, "name": errno.EIO, "map": errno.ENOMEM,
           "socket": errno.EMFILE, "thread": errno.EAGAIN, "spawn": errno.EAGAIN}
BEFORE_ASAN = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
LEAK = 0                        # how many allocations more than without faults a daemon may have at its end
STOPPED = 75                    # the exit status of a daemon whose storage has failed
FAILED = 3                      # ... and of one that could not start
TUS = {"Tus-Resumable": "1.0.0"}
PART = {**TUS, "Content-Type": "application/offset+octet-stream"}
GONE = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


class Board:
    """The page that nth.c reads: class, at, sticky, error, failed, live, count of each class."""

    def __init__(self, path):
        path.write_bytes(struct.pack("<q", -1) + bytes(4088))
        with open(path, "r+b") as f:
            self.page = mmap.mmap(f.fileno(), 4096)

    def get(self, i):
        return struct.unpack_from("<q", self.page, 8 * i)[0]

    def put(self, i, value):
        struct.pack_into("<q", self.page, 8 * i, value)

    def reset(self):
        self.put(0, -1)
        self.put(4, 0)
        for i in range(len(CLASSES)):
            self.put(6 + i, 0)

    def arm(self, name, at, sticky, error=None):
        self.reset()
        self.put(1, at)
        self.put(2, int(sticky))
        self.put(3, error or CLASSES[name])
        self.put(0, list(CLASSES).index(name))

    def counts(self):
        return {name: self.get(6 + i) for i, name in enumerate(CLASSES)}


class World:
    """A daemon with something in it, and the books of what it has acknowledged."""

    def __init__(self, folder, program, library, monkeypatch):
        self.board = Board(folder / "board")
        self.closed = socket.socket()           # its port is taken and nobody listens
        self.closed.bind(("127.0.0.1", 0))
        host = f"localhost:{self.closed.getsockname()[1]}"
        self.nowhere = f"https://{host}/x"
        self.daemon = Daemon(folder, program, {"keep-free": "0", "uploads": "100000", "rate": "0", "drain": "1", "silence-timeout": "10",
                                               "import-hosts": host, "outbound-private": "127.0.0.1/32,::1", "webhook-retries": "0"})
        self.monkeypatch, self.library, self.folder = monkeypatch, library, folder
        self.rng, self.number, self.patience = random.Random(7), 0, 20
        self.blobs, self.jobs, self.models = {}, {}, set()
        self.start()
        self.model = self.daemon.upload("models", "#quantize result model.onnx MODEL\n", name="kept")["id"]
        self.data = self.daemon.upload("datasets", '#inspect result result.json {"format":"npz","samples":4}\n', name="kept")["id"]
        self.body = {"type": "quantize", "model_id": self.model, "dataset_id": self.data, "recipe": "minmax-w8a8"}
        self.done = self.daemon("POST", "/v1/jobs", json=self.body).json()["id"]
        assert self.daemon.ended(self.done)["state"] == "succeeded"
        self.artifact = self.daemon("GET", f"/v1/jobs/{self.done}/artifacts").json()["data"][0]["id"]

    def start(self):
        self.board.put(5, 0)
        (self.folder / "port").unlink(missing_ok=True)
        with self.monkeypatch.context() as patch:
            patch.setenv("LD_PRELOAD", str(self.library))
            patch.setenv("NTH_FILE", str(self.folder / "board"))
            patch.setenv("ASAN_OPTIONS", BEFORE_ASAN)
            # A stack that glibc keeps for the next thread keeps allocations with it: as many as there once were resolvers of libcurl at a time.
            patch.setenv("GLIBC_TUNABLES", "glibc.pthread.stack_cache_size=0")
            self.daemon.start()

    def bytes(self):
        self.number += 1
        return f"{self.number} {self.rng.random()}".encode() * 200

    def ask(self, method, path, **more):
        """The answer, or None if there was none; never one that is no HTTP, nor one that is said to be JSON and is not."""
        try:
            answer = self.daemon(method, path, timeout=self.patience, **more)
        except GONE:
            return None
        if not more.get("stream") and answer.content and answer.headers.get("Content-Type") in ("application/json", "application/problem+json"):
            answer.json()
        return answer

    def put_blob(self, data):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        answer = self.ask("PUT", f"/v1/blobs/{digest}", data=data)
        if answer is not None and answer.status_code in (200, 201):
            self.blobs[digest] = data
        return answer, digest

    def submit(self, **more):
        answer = self.ask("POST", "/v1/jobs", json=self.body, **more)
        if answer is None or answer.status_code != 202:
            return None
        self.jobs[answer.json()["id"]] = None
        return answer.json()["id"]

    def settle(self, litter=False, ends=(STOPPED,)):
        try:
            self.settle_now(litter, ends)
        except GONE:            # it was about to stop: a child's last line, or the flush of a moment ago
            self.settle_now(litter, ends)

    def settle_now(self, litter, ends):
        """Back to a daemon without faults, restarted if it has stopped as it should; checks what it knows. litter: an unlink
        may have failed, and the next start sweeps."""
        self.board.reset()
        self.patience = 20
        self.daemon.session.close()             # what was kept may be gone
        ready = self.ask("GET", "/readyz")
        if ready is None or ready.status_code != 200 or self.daemon.process.poll() is not None:
            ended = until(lambda: self.daemon.process.poll(), 20, f"the end after {ready is not None and ready.text} {self.daemon.log.read_text()[-3000:]}")
            assert ended in ends, (ended, self.daemon.log.read_text()[-3000:])
            self.daemon.process = None
            self.start()
        assert self.daemon.process.poll() is None
        assert self.daemon("GET", "/readyz").status_code == 200
        for digest, data in self.blobs.items():
            assert self.daemon("GET", f"/v1/blobs/{digest}").content == data, digest
        for job in self.jobs:
            assert self.daemon.ended(job, 90)["state"] in ("succeeded", "failed", "canceled")
        for model in self.models:
            assert self.daemon("GET", f"/v1/models/{model}").status_code == 200
        until(lambda: litter or not self.daemon.leftovers(), what="the removal of unfinished uploads")
        self.blobs.clear()
        self.jobs.clear()
        self.models.clear()


def asks(method, path, **more):
    return lambda w: w.ask(method, path.format(w=w), **more)


def blob(w):
    w.put_blob(w.bytes())


def blob_again(w):
    data = w.bytes()
    w.put_blob(data)
    w.put_blob(data)


def chunked(w):
    w.ask("PUT", "/v1/models?name=chunked", data=iter([b"#quantize \n", w.bytes()]))


def tus(w, end=True):
    data = w.bytes()
    answer = w.ask("POST", "/v1/uploads", headers={**TUS, "Upload-Length": str(len(data))})
    if answer is None or answer.status_code != 201:
        return
    path = answer.headers["Location"]
    w.ask("PATCH", path, headers={**PART, "Upload-Offset": "0"}, data=data[:500])
    if not end:
        w.ask("DELETE", path, headers=TUS)
        return
    row = w.ask("HEAD", path, headers=TUS)
    at = int(row.headers.get("Upload-Offset", 0)) if row is not None and row.status_code == 200 else 500
    answer = w.ask("PATCH", path, headers={**PART, "Upload-Offset": str(at)}, data=data[at:])
    if answer is not None and answer.status_code == 204 and "Blob-Digest" in answer.headers:
        w.blobs["sha256:" + hashlib.sha256(data).hexdigest()] = data


def model_of_blob(w):
    answer, digest = w.put_blob(b"#quantize \n" + w.bytes())
    answer = w.ask("POST", "/v1/models", json={"name": "m", "format": "onnx", "files": [{"path": "m.onnx", "digest": digest}]})
    if answer is not None and answer.status_code == 201:
        w.models.add(answer.json()["id"])


def one_step(w):
    answer = w.ask("PUT", "/v1/models?name=step", data=b"#quantize \n" + w.bytes())
    if answer is not None and answer.status_code == 201:
        w.models.add(answer.json()["id"])


def deleted(w):
    answer = w.ask("PUT", "/v1/models?name=short", data=b"#quantize \n" + w.bytes())
    if answer is not None and answer.status_code == 201:
        w.ask("DELETE", f"/v1/models/{answer.json()['id']}")


def job(w):
    name = w.submit()
    if name:
        try:
            w.daemon.ended(name, 10)
        except (AssertionError, KeyError, ValueError, *GONE):
            pass                # settle() asks again without faults


def key(w):
    name = {"Idempotency-Key": f"key-{w.number}"}
    w.number += 1
    first, second = w.submit(headers=name), w.submit(headers=name)
    assert not (first and second) or first == second


def cancel(w):
    name = w.submit()
    if name:
        w.ask("POST", f"/v1/jobs/{name}/cancel")


def retry(w):
    answer = w.ask("POST", f"/v1/jobs/{w.done}/retry")
    if answer is not None and answer.status_code == 202:
        w.jobs[answer.json()["id"]] = None


def stream(w):
    answer = w.ask("GET", f"/v1/jobs/{w.done}/events", headers={"Accept": "text/event-stream"}, stream=True)
    try:
        if answer is not None:
            assert len(answer.content) >= 0
    except GONE:
        pass


def token(w):
    answer = w.ask("POST", "/v1/tokens", json={"name": "t", "role": "viewer"})
    if answer is not None and answer.status_code == 201:
        w.ask("DELETE", f"/v1/tokens/{answer.json()['id']}")


def team(w):
    w.number += 1
    w.ask("POST", "/v1/teams", json={"name": f"team{w.number}"})
    w.ask("PUT", f"/v1/teams/team{w.number}/quota", json={"max_queued": 5})
    w.ask("DELETE", f"/v1/teams/team{w.number}")


def recipe(w):
    w.number += 1
    name = f"saved-{w.number}"
    answer = w.ask("POST", "/v1/recipes", json={"name": name, "recipe": {"preset": "minmax-w8a8", "exclude": ["*head*"]}})
    if answer is None or answer.status_code != 201:
        w.ask("DELETE", f"/v1/recipes/{name}")          # which may be there, and may not
        return
    w.ask("GET", "/v1/recipes")
    w.ask("POST", "/v1/jobs?dry_run=true", json={**w.body, "recipe": {"preset": name, "target": "openvino"}})
    w.ask("DELETE", f"/v1/recipes/{name}")


def session(w):
    w.ask("POST", "/v1/session", json={"token": w.daemon.token}, headers={"Sec-Fetch-Site": "same-origin"})


def eventually(w, path, done):
    """Asks until done(row), or for a few seconds: a fault may have ended what was to come."""
    for _ in range(40):
        answer = w.ask("GET", path)
        if answer is None or answer.status_code != 200 or done(answer.json()):
            return
        time.sleep(0.05)


def hook(w):
    """A delivery to a port where nobody listens."""
    made = w.ask("POST", "/v1/webhooks", json={"url": w.nowhere, "events": ["job.failed"]})
    if made is None or made.status_code != 201:
        return
    path = f"/v1/webhooks/{made.json()['id']}"
    sent = w.ask("POST", path + "/ping")
    if sent is not None and sent.status_code == 202:
        eventually(w, sent.headers["Location"], lambda row: row["state"] != "pending")
    w.ask("DELETE", path)


def fetched(w):
    """An import from there."""
    begun = w.ask("POST", "/v1/imports", json={"url": w.nowhere})
    if begun is not None and begun.status_code == 202:
        eventually(w, begun.headers["Location"], lambda row: row["problem"])
        w.ask("DELETE", begun.headers["Location"], headers=TUS)


def rotted(w):
    """Bytes altered on the disk are given to nobody; those of an upload that was acknowledged are there."""
    data = w.bytes()
    _, digest = w.put_blob(data)
    if not w.blobs.pop(digest, None):
        return
    path = w.daemon.blob(digest)
    path.unlink()
    path.write_bytes(data[::-1])
    told = [w.ask("GET", f"/v1/blobs/{digest}?verify=1") for _ in range(2)]
    assert all(answer is None or answer.status_code >= 400 for answer in told)
    w.put_blob(data)


SCENARIOS = {
    "health": asks("GET", "/healthz"), "readiness": asks("GET", "/readyz"), "metrics": asks("GET", "/metrics"), "page": asks("GET", "/"),
    "capabilities": asks("GET", "/v1/capabilities"), "queue": asks("GET", "/v1/queue"), "blob": blob, "blob again": blob_again, "chunked": chunked,
    "parts": tus, "parts ended": lambda w: tus(w, False), "model": model_of_blob, "one step": one_step, "deleted": deleted, "job": job, "key": key,
    "dry run": lambda w: w.ask("POST", "/v1/jobs?dry_run=true", json=w.body), "cancel": cancel, "retry": retry, "list": asks("GET", "/v1/jobs?limit=10"),
    "events": asks("GET", "/v1/jobs/{w.done}/events"), "stream": stream, "artifact": asks("GET", "/v1/artifacts/{w.artifact}/content"),
    "range": asks("GET", "/v1/artifacts/{w.artifact}/content", headers={"Range": "bytes=1-2"}), "token": token, "team": team, "recipe": recipe, "session": session,
    "audit": asks("GET", "/v1/audit"), "refused": asks("POST", "/v1/jobs", data=b"{"),
    "hook": hook, "import": fetched, "rotted": rotted,
}
HALVES = {"first": list(SCENARIOS)[::2], "second": list(SCENARIOS)[1::2]}      # for pieces of test-long


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return preloaded(tmp_path_factory.mktemp("nth"), "fault/nth.c")


@pytest.fixture(scope="module")
def kept(tmp_path_factory, fake_job, library):
    """Allocations that a daemon has at its end when nothing has failed: what libraries never free, less what they had before nth.c counted."""
    with pytest.MonkeyPatch.context() as patch:
        w = World(tmp_path_factory.mktemp("kept"), fake_job, library, patch)
        for scenario in SCENARIOS.values():
            scenario(w)
        w.settle()
        assert w.daemon.stop() == 0
        return w.board.get(5)


@pytest.fixture
def world(tmp_path, fake_job, library, monkeypatch, kept):
    w = World(tmp_path, fake_job, library, monkeypatch)
    yield w
    w.board.reset()
    assert w.daemon.stop() == 0
    print(f"allocations at the end: {w.board.get(5)}, of a daemon without faults: {kept}")
    assert w.board.get(5) <= kept + LEAK


def calls(w, name):
    """How often a scenario, which begins with a connection, calls each class."""
    for _ in range(2):          # the first time warms caches
        w.daemon.session.close()
        w.board.reset()
        SCENARIOS[name](w)
        counts = w.board.counts()
    w.settle()
    return counts


def tries(kind):
    """Points of a class in a scenario; leaks are behind allocations more than behind the rest."""
    return 4 if ASAN and kind != "memory" else 20


def points(count, most):
    """At most so many of 1..count, evenly, the first and the last among them."""
    return sorted({1 + i * (count - 1) // max(1, most - 1) for i in range(min(most, count))}) if count else []


def fail_at(w, name, kind, at, sticky, error=None):
    print(f"{name}: {kind} {at} {'for good' if sticky else 'once'}")
    w.daemon.session.close()
    w.board.arm(kind, at, sticky, error)
    w.patience = 2 if kind == "socket" and sticky else 20           # nobody is let in
    SCENARIOS[name](w)
    failed = w.board.get(4)
    w.settle(litter=kind == "name")
    if failed and w.daemon.leftovers():
        assert w.daemon.stop() == 0
        w.start()
        assert not w.daemon.leftovers()
    return failed


@pytest.mark.parametrize("leaked", [0, 3])
def test_what_is_not_freed_is_counted(tmp_path, library, leaked):
    source = tmp_path / "leak.c"
    source.write_text(f"#include <stdlib.h>\nvoid *kept[9];\nint main(void) {{ for (int i = 0; i < 9; i++) kept[i] = realloc(calloc(1, 9), 99);"
                      f" for (int i = {leaked}; i < 9; i++) free(kept[i]); return 0; }}\n")
    subprocess.run(["gcc", "-O0", source, "-o", tmp_path / "leak"], check=True)
    board = Board(tmp_path / "board")
    subprocess.run([tmp_path / "leak"], check=True, env={"LD_PRELOAD": str(library), "NTH_FILE": str(tmp_path / "board")})
    assert board.get(5) == leaked


@pytest.mark.parametrize("leaked", [0, 3])
def test_what_is_not_freed_is_told_by_the_leak_detector_behind_the_library(tmp_path, library, leaked):
    source, reports = tmp_path / "leak.c", tmp_path / "report"
    source.write_text("#include <stdlib.h>\n#include <string.h>\nvoid *grown(void) { return realloc(calloc(1, 9), 99); }\n"
                      f"int main(void) {{ void *p[9]; for (int i = 0; i < 9; i++) p[i] = i % 2 ? grown() : strdup(\"kept\");"
                      f" for (int i = {leaked}; i < 9; i++) free(p[i]); memset(p, 0, sizeof p); return 0; }}\n")
    subprocess.run(["gcc", "-O0", "-fsanitize=address", source, "-o", tmp_path / "leak"], check=True)
    Board(tmp_path / "board")
    ended = subprocess.run([tmp_path / "leak"], env={"LD_PRELOAD": str(library), "NTH_FILE": str(tmp_path / "board"),
                                                     "ASAN_OPTIONS": f"{BEFORE_ASAN}:log_path={reports}"})
    told = "".join(path.read_text() for path in tmp_path.glob("report.*"))
    assert (ended.returncode != 0) == ("leaked in 3 allocation(s)" in told) == ("in grown" in told) == (leaked == 3), told


def test_one_point_of_each_scenario_and_class(world):
    """Some calls are not made again (a cache is warm, a thread was faster), so a few of the armed do not fail."""
    rng, failed = random.Random(3), []
    for name in SCENARIOS:
        for kind, count in calls(world, name).items():
            if count and (kind == "memory" or rng.random() < 0.5):
                failed.append(fail_at(world, name, kind, rng.randrange(1, count + 1), rng.random() < 0.3) > 0)
    assert len(failed) > 50
    assert sum(failed) > 0.8 * len(failed)


def test_no_allocation_is_missed_by_a_request_with_an_empty_body(world):
    """A retry whose empty body found no memory was answered 202 with nothing in it: all its allocations fail once here, not a sample."""
    for at in range(1, calls(world, "retry")["memory"] + 1):
        fail_at(world, "retry", "memory", at, False)


def start_with(w, kind, at, sticky):
    """Stops the daemon and starts it with a fault: it runs, or ends with a word and a status, and starts when the fault is over.  Whether the fault was met."""
    assert w.daemon.stop() == 0
    said = w.daemon.log.stat().st_size
    print(f"start: {kind} {at} {'for good' if sticky else 'once'}")
    w.board.arm(kind, at, sticky)
    try:
        w.start()
        failed = w.board.get(4)
    except AssertionError:
        status = w.daemon.process.poll()
        assert status is not None and status > 0, (status, w.daemon.log.read_text()[said:])       # neither a signal nor a success
        assert w.daemon.log.read_text()[said:].strip(), "it ended without a word"
        w.daemon.process = None
        failed = w.board.get(4)
        w.board.reset()
        w.start()
    w.settle(ends=(STOPPED, FAILED))        # it answers before all of its start is done: the file that tells its port is not yet on the disk
    return failed


def calls_of_a_start(w):
    assert w.daemon.stop() == 0
    w.board.reset()
    w.start()
    counts = w.board.counts()
    w.put_blob(w.bytes())       # settle() asks for it after the next start
    return counts


def test_one_fault_of_each_class_while_it_starts(world):
    rng = random.Random(4)
    for kind, count in calls_of_a_start(world).items():
        assert not count or start_with(world, kind, rng.randrange(1, count + 1), rng.random() < 0.5)


def test_a_failed_sync_stops_the_daemon_and_the_next_start_has_what_was_acknowledged(world):
    before, digest = world.put_blob(world.bytes())
    kept = dict(world.blobs)
    world.board.arm("sync", 1, False)
    refused, _ = world.put_blob(world.bytes())
    assert refused.status_code == 500
    # The next sync would say "ok"; until the daemon has ended nothing is acknowledged all the same.
    asked, end = 0, time.monotonic() + 20
    while (answer := world.put_blob(world.bytes())[0]) is not None:
        assert answer.status_code >= 500 and time.monotonic() < end, answer.text
        asked += 1
    assert asked > 0
    assert world.daemon.process.wait(20) == STOPPED
    assert "daemon.storage" in world.daemon.log.read_text()
    world.board.reset()
    world.daemon.process = None
    world.start()
    assert world.daemon("GET", f"/v1/blobs/{digest}").content == kept[digest]
    assert world.daemon.ended(world.submit())["state"] == "succeeded"


DAMAGE = {
    "another file": lambda b: b"this is no database, but long enough to be one" * 200,
    "a torn head": lambda b: bytes(100) + b[100:],
    "pages of nothing": lambda b: b[:4096] + bytes(5 * 4096) + b[6 * 4096:],
    "cut off": lambda b: b[:len(b) // 2],
    "bits flipped": lambda b: b[:4096] + bytes(x ^ 0x55 for x in b[4096:12288]) + b[12288:],
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_database_is_not_opened_and_a_backup_brings_back_what_it_knew(make_daemon, how):
    d = make_daemon()
    model = d.upload("models", "#quantize result model.onnx MODEL\n", name="kept")["id"]
    file, backup = d.data / "repquant.db", d.folder / "backup.db"
    with contextlib.closing(sqlite3.connect(file)) as copy:
        copy.execute(f"VACUUM INTO '{backup}'")
    assert d.stop() == 0
    damaged = DAMAGE[how](file.read_bytes())
    file.write_bytes(damaged)
    (d.folder / "port").unlink(missing_ok=True)
    with pytest.raises(AssertionError, match="the database is damaged"):
        d.start()
    assert d.process.wait(10) == 3
    d.process = None
    assert file.read_bytes() == damaged
    file.write_bytes(backup.read_bytes())
    for end in ("-wal", "-shm"):
        file.with_name(file.name + end).unlink(missing_ok=True)
    (d.folder / "port").unlink(missing_ok=True)
    d.start()
    assert d("GET", f"/v1/models/{model}").json()["name"] == "kept"
    assert d.upload("models", "#quantize \n", name="new")["id"]


@pytest.mark.long
@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "for good"])
def test_every_point_of_a_start(world, kind, sticky):
    failed, tried = 0, points(calls_of_a_start(world)[kind], tries(kind))
    for at in tried:
        failed += start_with(world, kind, at, sticky) > 0
    print(json.dumps({"class": kind, "sticky": sticky, "points of a start": len(tried), "failed": failed}))
    assert failed or not tried


@pytest.mark.long
@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("half", HALVES)
def test_every_point(world, kind, sticky, half):
    failed, tried, lives = 0, 0, []
    for name in HALVES[half]:
        count = calls(world, name)[kind]
        before = world.board.get(5)
        pid = world.daemon.process.pid
        for at in points(count, tries(kind)):
            failed += fail_at(world, name, kind, at, sticky) > 0
            tried += 1
        if count and world.daemon.process.pid == pid:
            lives.append((name, (world.board.get(5) - before) / len(points(count, tries(kind)))))
    most = max(lives, key=lambda x: x[1], default=None)
    print(json.dumps({"class": kind, "sticky": sticky, "points": tried, "failed": failed, "allocations kept a point": most}))
    assert failed > 0 or not tried
