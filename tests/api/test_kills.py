"""kill -9 at random moments while clients upload, submit, cancel, follow, download and are called back: what they were told holds, see history.py.

`make test` kills a few times; test-long 500 times, in pieces of a hundred.
"""
import collections
import contextlib
import copy
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import threading
import time

import pytest
from conftest import LIMITS, Daemon, until
from history import ALL, Client, disk_wrong, jobs_of_key, receiver  # noqa: F401  (a fixture)
from receiver import Receiver, certificate

OPTIONS = {"keep-free": "0", "uploads": "100000", "webhooks": "1000", "rate": "0", "workers": "2", "outbound-private": "127.0.0.1/32,::1",
           "webhook-retries": "0,0,1,1,1,1,1,1", **LIMITS}
READY_S = 20 if LIMITS else 5


def children(pid):
    """Of all its threads: workers start them."""
    return [int(n) for task in pathlib.Path(f"/proc/{pid}/task").iterdir() for n in (task / "children").read_text().split()]


def kill(daemon):
    daemon.process.kill()
    daemon.process.wait()
    daemon.process = None
    (daemon.folder / "port").unlink(missing_ok=True)


def kill_a_job(daemon):
    """One of its processes, if there is one at the moment."""
    for pid in children(daemon.process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
            return 1
        except ProcessLookupError:
            pass                    # it has just ended
    return 0


class Killed:
    """A daemon that is killed again and again, its clients, and what was counted."""

    def __init__(self, folder, fake_job, receiver, seed):
        self.daemon = Daemon(folder, fake_job, {**OPTIONS, "outbound-ca": str(folder / "cert")}).start()
        self.rng = random.Random(seed)
        self.clients = [Client(self.daemon, random.Random(f"{seed} {n}"), f"c{n}", ALL, receiver) for n in range(3)]
        for client in self.clients:
            client.furnish()
        self.counts = {"kills": 0, "in recovery": 0, "of jobs": 0, "slowest start": 0.0}

    def once(self):
        """Clients at work, a random moment, death, and a start; sometimes death again before that is through."""
        threads = [threading.Thread(target=c.work_until_death) for c in self.clients]
        for t in threads:
            t.start()
        time.sleep(self.rng.uniform(0, 0.5))        # not a wait: the moment is what is varied
        if self.rng.random() < 0.3:
            self.counts["of jobs"] += kill_a_job(self.daemon)
            time.sleep(self.rng.uniform(0, 0.3))
        assert self.daemon.process.poll() is None, "the daemon has died by itself: " + self.daemon.log.read_text()[-4000:]
        kill(self.daemon)
        for t in threads:
            t.join(60)
            assert not t.is_alive()
        self.counts["kills"] += 1
        if self.rng.random() < 0.2:
            self.daemon.launch()
            time.sleep(self.rng.uniform(0, 0.15))
            kill(self.daemon)
            self.counts["kills"] += 1
            self.counts["in recovery"] += 1
        begun = time.monotonic()
        self.daemon.start()
        self.counts["slowest start"] = max(self.counts["slowest start"], time.monotonic() - begun)

    def violations(self, whole):
        return [w for c in self.clients for w in c.check(whole)]

    def end(self):
        """What is wrong when all has ended and the daemon has stopped."""
        wrong = self.violations(True) + [w for c in self.clients for w in jobs_of_key(c)]
        used = self.daemon("GET", "/v1/teams/local").json()["used"]
        until(lambda: not self.daemon("GET", "/v1/queue").json()["jobs"]["running"], what="an idle daemon")
        assert self.daemon.stop() == 0
        return wrong + disk_wrong(self.daemon, self.clients, used)


def run(folder, fake_job, receiver, seed, kills):
    killed = Killed(folder, fake_job, receiver, seed)
    try:
        while killed.counts["kills"] < kills:
            killed.once()
            wrong = killed.violations(killed.rng.random() < 0.1)
            assert not wrong, (killed.counts, wrong)
        wrong = killed.end()
        jobs = [j for c in killed.clients for j in c.jobs]
        states = collections.Counter(j.state for j in jobs)
        told = {**killed.counts, "jobs": len(jobs), **states, "blobs": sum(len(c.blobs) for c in killed.clients),
                "changes": sum(len(c.changes) for c in killed.clients), "deliveries": len(receiver.calls)}
        print(json.dumps(told))
        assert not wrong, wrong
        assert told["succeeded"] and told["blobs"] and told["deliveries"]
        assert told["slowest start"] < READY_S
    finally:
        killed.daemon.stop()


def test_whenever_it_is_killed_it_keeps_what_it_told(tmp_path, fake_job, receiver):
    run(tmp_path, fake_job, receiver, "short", 5)


@pytest.mark.long
@pytest.mark.parametrize("part", ["first", "second", "third", "fourth", "fifth"])
def test_a_hundred_kills(part, tmp_path, fake_job, receiver):
    run(tmp_path, fake_job, receiver, part, 100)


# What a daemon might have lost or altered while it was down, and that the books say so: what is done to the database, or to the books.
DAMAGE = {
    "a blob": "DELETE FROM blob_owners WHERE digest NOT IN (SELECT digest FROM asset_files UNION SELECT digest FROM artifacts)",
    "bytes of an upload": "UPDATE uploads SET offset = 0 WHERE digest = ''",
    "a job": "DELETE FROM jobs WHERE state = 'succeeded'",
    "the state of a job": "UPDATE jobs SET state = 'canceled' WHERE state = 'succeeded'",
    "an artifact": "DELETE FROM artifacts WHERE name = 'model.onnx'",
    "an event": "DELETE FROM events WHERE seq = 2",
    "what an event says": "UPDATE events SET data = '{}' WHERE seq = 3",
    "the row of a change": "DROP TRIGGER audit_keeps_its_rows; DELETE FROM audit WHERE seq > 5",
    "the row of a file": "PRAGMA foreign_keys = OFF; DELETE FROM blobs",
}


@pytest.fixture(scope="module")
def lived(tmp_path_factory, fake_job):
    """A daemon that has stopped, after a while of everything that went well."""
    folder = tmp_path_factory.mktemp("lived")
    certificate(folder)
    r = Receiver(folder)
    killed = Killed(folder, fake_job, r, "lived")
    client = killed.clients[0]
    for chore in ("put", "begin", "part", "submit", "follow", "hooked", "follow", "ping"):
        getattr(client, chore)()
    assert not killed.end() and client.open and client.blobs and [j.state for j in client.jobs] == ["succeeded"] * 2
    yield killed
    killed.daemon.stop()
    r.end()


@pytest.mark.parametrize("what", DAMAGE)
def test_the_books_notice_the_loss_of(lived, what):
    daemon, original = lived.daemon, lived.clients[0]
    original.session = None
    client = copy.deepcopy(original, {id(shared): shared for shared in (daemon, original.receiver)})
    file = daemon.data / "repquant.db"
    shutil.copytree(daemon.data, daemon.folder / "before")
    with contextlib.closing(sqlite3.connect(file)) as lite:
        lite.executescript("PRAGMA foreign_keys = ON; " + DAMAGE[what])
        lite.commit()
    try:
        if what.startswith("the row of"):
            assert disk_wrong(daemon, [client], {})[1:]         # a quota of nothing is wrong, too
        else:
            (daemon.folder / "port").unlink(missing_ok=True)
            daemon.start()
            assert client.check(False)
    finally:
        daemon.stop()
        shutil.rmtree(daemon.data)
        (daemon.folder / "before").rename(daemon.data)


def test_the_books_notice_an_end_that_was_told_under_two_ids(lived):
    client = lived.clients[0]
    (lived.daemon.folder / "port").unlink(missing_ok=True)
    lived.daemon.start()
    assert not client.check()
    end = next(c for c in client.receiver.calls if b"job.succeeded" in c.body)
    client.receiver.calls.append(end._replace(headers={**end.headers, "webhook-id": "evt_other"}))
    assert client.check()
    client.receiver.calls.pop()
    assert lived.daemon.stop() == 0
