"""What must hold of a daemon behind every attack: it is the same process, has given back what it took, and answers at once."""
import contextlib
import os
import pathlib
import re
import statistics
import time

from conftest import BUILD, LIMITS, until

RSS_MORE, HEALTHZ_S, ASKED = 16 << 20, 0.05, 21
DATABASE = 2 * (1 + 6) + 1                              # the file and its WAL for the writer and each reader (storage/db.c), and what they share
MEASURED = not LIMITS and BUILD.name == "build"         # bytes and times mean something in the release build alone
RAW = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]")


def descriptors(daemon):
    """What is open, by what it leads to: connections of no client of ours, and of the database's no more than its readers may have."""
    daemon.session.close()
    found = []
    for link in pathlib.Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(re.sub(r"\[\d+\]", "", os.readlink(link)))
    readers = [name for name in found if name.startswith(str(daemon.data / "repquant.db"))]     # each opens the WAL when it first reads, and keeps it
    assert len(readers) <= DATABASE
    return sorted(name for name in found if name not in readers)


def healthz_seconds(daemon):
    times = []
    for _ in range(ASKED):
        began = time.monotonic()
        assert daemon("GET", "/healthz").status_code == 200
        times.append(time.monotonic() - began)
    return statistics.median(times)


def idle(daemon):
    """Nothing is under way: no upload, no job."""
    return not daemon.leftovers() and not any((daemon.data / "scratch").iterdir())


def returned(measure, as_before, seconds):
    """Waits until what is measured is as it was; what it is in the end stands in the error."""
    with contextlib.suppress(AssertionError):
        until(lambda: as_before(measure()), seconds)
    now = measure()
    assert as_before(now), now


@contextlib.contextmanager
def unharmed(daemon):
    """Around a module's attacks on a daemon that serves already."""
    for _ in range(40):                                 # what a first request makes once and keeps
        daemon("GET", "/v1/jobs")
    until(lambda: idle(daemon) and descriptors(daemon).count("socket:") == 1, 20, "rest: only the listener is open")
    pid, open_before, bytes_before = daemon.process.pid, descriptors(daemon), daemon.memory()
    yield
    assert daemon.process.pid == pid and daemon.process.poll() is None, daemon.log.read_text()[-4000:]
    until(lambda: idle(daemon), what="the removal of what was unfinished")
    returned(lambda: descriptors(daemon), lambda now: now == open_before, 20)
    if MEASURED:
        returned(daemon.memory, lambda now: now <= bytes_before + RSS_MORE, 5)
        assert healthz_seconds(daemon) < HEALTHZ_S
    with daemon.database() as lite:
        assert lite.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    assert not (found := RAW.search(log := daemon.log.read_bytes())), log[max(0, found.start() - 200):found.end() + 50]
