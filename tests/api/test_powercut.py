"""The power fails in the middle of uploads, submits, jobs and deliveries: what was told holds afterwards, again and again on the same data folder.

tests/tools/powercut.c takes back what was not synced, history.py keeps the books. One test makes the library deaf to fsync and wants losses: the
others could see one. `make test` cuts a few times; test-long at 250 points of each scenario, in two pieces each.
"""
import json
import random

import pytest
from conftest import Daemon, preloaded
from history import PUBLISH, SUBMITS, UPLOADS, WEBHOOKS, Client, disk_wrong, jobs_of_key, receiver  # noqa: F401  (a fixture)
from support import SANITIZED

pytestmark = pytest.mark.skipif(SANITIZED, reason="sanitizers do not share a process with another preloaded library")
GONE_BY = 137                   # the exit status of a process whose power has failed


@pytest.fixture(scope="session")
def powercut(tmp_path_factory):
    return preloaded(tmp_path_factory.mktemp("powercut"), "tools/powercut.c")


# Chores and the most calls until the power fails; fewer than the daemon makes while it starts would show nothing else.
SCENARIOS = {"uploads": (UPLOADS, 250), "submits": (SUBMITS, 400), "publish": (PUBLISH, 500), "webhooks": (WEBHOOKS, 500)}


class Cut:
    """A daemon whose power fails again and again on the same data folder, its client, and what was counted."""

    def __init__(self, folder, fake_job, powercut, monkeypatch, name, receiver=None, deaf=False, part=""):
        folder.mkdir()
        options = {"uploads": "1000", "keep-free": "0", "rate": "0", "webhooks": "1000", "outbound-private": "127.0.0.1/32,::1",
                   "webhook-retries": "0,0,1,1,1,1,1,1"}
        if receiver:
            options["outbound-ca"] = str(folder.parent / "cert")
        self.daemon = Daemon(folder, fake_job, options).start()
        self.powercut, self.monkeypatch, self.deaf = powercut, monkeypatch, deaf
        self.chores, self.most = SCENARIOS[name]
        self.rng = random.Random(f"{name} {part}")
        self.client = Client(self.daemon, random.Random(f"client {name} {part}"), name, self.chores, receiver)
        if receiver:
            self.client.furnish()
        self.cuts = self.at_start = 0

    def once(self):
        """The daemon with the library, at work until it is dark; then without."""
        assert self.daemon.stop() == 0
        wishes = {"LD_PRELOAD": self.powercut, "POWERCUT_ROOT": self.daemon.data, "POWERCUT_AT": self.rng.randrange(12, self.most),
                  "POWERCUT_SEED": self.cuts}
        (self.daemon.folder / "port").unlink(missing_ok=True)
        with self.monkeypatch.context() as patch:
            for name, value in {**wishes, **({"POWERCUT_DEAF": "1"} if self.deaf else {})}.items():
                patch.setenv(name, str(value))
            try:
                self.daemon.start()
            except AssertionError:          # it was dark before it listened
                if self.daemon.process.poll() != GONE_BY:
                    raise
                self.at_start += 1
        if self.daemon.process.poll() is None:
            self.client.work_until_death()
            assert not self.client.wrong, self.client.wrong
        assert self.daemon.process.wait(10) == GONE_BY, self.daemon.log.read_text()[-3000:]
        self.cuts += 1
        self.daemon.process = None
        (self.daemon.folder / "port").unlink(missing_ok=True)
        self.daemon.start()

    def rounds(self, n):
        """n cuts, or as many as it takes until something is wrong: what is."""
        while self.cuts < n:
            self.once()
            wrong = self.client.check(self.rng.random() < 0.2)
            if wrong:
                return wrong
        wrong = self.client.check() + jobs_of_key(self.client)
        used = self.daemon("GET", "/v1/teams/local").json()["used"]
        assert self.daemon.stop() == 0
        return wrong + disk_wrong(self.daemon, [self.client], used)

    def told(self):
        jobs = self.client.jobs
        return {"cuts": self.cuts, "at start": self.at_start, "blobs": len(self.client.blobs), "jobs": len(jobs), "changes": len(self.client.changes),
                "succeeded": sum(j.state == "succeeded" for j in jobs), "deliveries": len(self.client.receiver.calls) if self.client.receiver else 0}


@pytest.fixture
def cut(tmp_path, fake_job, powercut, monkeypatch, receiver):
    made = []

    def make(name, with_jobs=True, **more):
        made.append(Cut(tmp_path / name, fake_job, powercut, monkeypatch, name, receiver if with_jobs else None, **more))
        return made[-1]

    yield make
    for c in made:
        c.daemon.stop()


def test_no_power_cut_loses_an_acknowledged_byte(cut):
    c = cut("uploads", with_jobs=False)
    assert not c.rounds(15)
    assert c.cuts == 15 and c.told()["blobs"] > 15


@pytest.mark.parametrize("name", ["submits", "publish", "webhooks"])
def test_no_power_cut_loses_an_acknowledged_change(cut, name):
    c = cut(name)
    assert not c.rounds(3)
    assert c.cuts == 3 and c.told()["changes"] > 3


def test_a_disk_that_does_not_sync_is_noticed(cut):
    assert cut("uploads", with_jobs=False, deaf=True).rounds(10)


@pytest.mark.long
@pytest.mark.parametrize("part", ["first", "second"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_power_cuts(cut, name, part):
    c = cut(name, with_jobs=name != "uploads", part=part)
    wrong = c.rounds(125)
    print(json.dumps({"scenario": name, "part": part, **c.told()}))
    assert not wrong, wrong
