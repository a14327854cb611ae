"""Ten seconds of the soak (tests/fault/soak.py is an hour of it), with a restart, a kill, a day and the whole judgement; and what that must see."""
import copy
import json
import os
import signal
import subprocess

import pytest
from conftest import REPQUANT, ROOT, until
from soak import Soak
from soak_report import summary
from soak_watch import ACROSS, GROWTH, HEAP, MIB, WAL, WARM_S, Watch, children, descriptors, judged
from support import SANITIZED

pytestmark = [pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory and descriptors are not the daemon's"),
              pytest.mark.skipif(os.geteuid() != 0, reason="the kernel shows memory and descriptors of a process with secrets to root alone")]


@pytest.fixture(scope="module")
def either_job():
    program = os.path.join(os.path.dirname(REPQUANT), "tools", "either_job")
    subprocess.run(["make", f"O={os.path.dirname(REPQUANT)}", "test-tools"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return program


@pytest.fixture(scope="module")
def soaked(tmp_path_factory, either_job):
    """A soak that is through, its daemon stopped and nothing wrong."""
    soak = Soak(tmp_path_factory.mktemp("soak"), either_job, "short").begin()
    try:
        soak.load(4)
        soak.quiet()
        soak.load(6, [(1, signal.SIGTERM), (4, signal.SIGKILL)])
        soak.quiet()
        soak.stop_clients()
        soak.pass_a_day()
        yield soak
    finally:
        soak.gate.end()
        if soak.daemon.process:
            soak.daemon.process.kill()
        soak.receiver.end()


def test_the_books_of_the_soak_notice_a_job_that_is_lost_altered_or_unknown(soaked):
    assert soaked.done and not soaked.jobs_wrong()
    job, (state, key, type_) = next((i, row) for i, row in soaked.done.items() if row[0] == "canceled")
    for done in ({**soaked.done, "job_" + "0" * 26: (state, "other", type_)}, {**soaked.done, job: ("succeeded", key, type_)},
                 {i: row for i, row in soaked.done.items() if i != job}):
        other = copy.copy(soaked)
        other.done = done
        assert other.jobs_wrong()


def test_ten_seconds_of_everything(soaked):
    assert not soaked.judge(), soaked.wrong
    print(summary(json.loads(json.dumps(soaked.told(), default=str))))
    assert soaked.counts["SIGTERM"] == 3 and soaked.counts["SIGKILL"] == 1 and soaked.counts["days passed"] == 1
    assert soaked.counts["storms"] and soaked.counts["deliveries"] and soaked.counts["bytes swept"] > 0
    assert {"succeeded", "canceled"} <= {state for state, _, _ in soaked.done.values()}


# ---- that what is measured is judged ----

QUIET = {"what": "quiet", "life": 1, "rss": 60 * MIB, "kinds": {"socket": 1, "repquant.db": 5}, "fds": 6, "threads": 50, "children": 0,
         "left": [], "wal": 4 * MIB, "heap": 16 * MIB, "database_memory": 9 * MIB}
FLAT = [QUIET | {"age": WARM_S * n} for n in range(1, 5)]


def test_what_is_flat_is_fine():
    assert not judged(FLAT) and not judged([QUIET | {"age": 60, "life": n, "rss": (60 + n) * MIB} for n in range(7)])
    assert not judged([QUIET | {"age": 10, "rss": 20 * MIB}, *FLAT]), "a cold daemon grows"
    assert not judged([*FLAT, FLAT[-1] | {"heap": 18 * MIB, "database_memory": 11 * MIB}]), "caches fill"


@pytest.mark.parametrize("what, change", [
    ("memory grew", {"rss": 60 * MIB + GROWTH + 1}), ("heap grew", {"heap": 16 * MIB + HEAP + 1}),
    ("7 descriptors", {"kinds": {"socket": 2, "repquant.db": 5}, "fds": 7}),
    ("fewer {'socket': 1}", {"kinds": {"repquant.db": 5}, "fds": 5}), ("51 threads", {"threads": 51}), ("1 children", {"children": 1}),
    ("left over", {"left": ["new.1"]}), ("WAL", {"wal": WAL + 1}),
])
def test_growth_is_noticed(what, change):
    assert any(what in text for text in judged([*FLAT[:-1], FLAT[-1] | change]))


def test_growth_from_life_to_life_is_noticed():
    wrong = judged([QUIET | {"age": 60, "life": n, "rss": 60 * MIB + n * ACROSS // 3} for n in range(7)])
    assert any("life to life" in text for text in wrong)


def test_a_zombie_and_a_descriptor_are_seen():
    before = descriptors(os.getpid())
    dead = subprocess.Popen(["true"])
    until(lambda: children(os.getpid()).get(dead.pid) == "Z", what="a zombie")
    watch = Watch(None)
    for _ in range(2):
        watch.look_for_zombies({p for p, state in children(os.getpid()).items() if state == "Z"})
    assert any(str(dead.pid) in text for text in watch.wrong)
    dead.wait()
    with open(__file__):
        assert descriptors(os.getpid()) - before == {"test_soak.py": 1}
