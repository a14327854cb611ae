"""What a daemon holds of the machine, measured while it works and in quiet moments; and what is wrong with a row of such measurements.

Everything is read from /proc and from the data folder: the daemon is not asked.
"""
import collections
import pathlib
import re
import threading
import time

MIB = 1 << 20
WARM_S = 240                    # a daemon's caches and the heaps of its threads are filled by then
GROWTH = 4 * MIB                # of a warm daemon's memory, from quiet moment to quiet moment; specs: "RSS growth <= 4 MiB"
HEAP = 2 * MIB                  # of what malloc has given a warm daemon, SQLite's part aside; storage/recent.c fills for a while
ACROSS = 8 * MIB                # of the memory of daemons of the same age, from the first one on: the database they serve grows
WAL = 64 * MIB                  # PRAGMA journal_size_limit


def children(pid):
    """{pid: state} of the children of all its threads: workers start them."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for child in quietly((task / "children").read_text, "").split():
            stat = quietly(pathlib.Path(f"/proc/{child}/stat").read_text, "")
            if stat:
                found[int(child)] = stat.rsplit(")", 1)[1].split()[0]
    return found


def quietly(read, otherwise):
    """What read() gives, of a file that may be gone by now."""
    try:
        return read()
    except OSError:
        return otherwise


def memory(pid):
    """RSS, PSS and the peak of RSS, in bytes."""
    rows = dict(re.findall(r"^(\w+): +(\d+) kB", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M))
    peak = re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())
    return {"rss": int(rows["Rss"]) * 1024, "pss": int(rows["Pss"]) * 1024, "peak": int(peak[1]) * 1024}


def descriptors(pid):
    """How many there are of each kind: sockets, pipes, each file by its name."""
    found = collections.Counter()
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        name = quietly(lambda fd=fd: str(fd.readlink()), "")
        found[re.sub(r":\[\d+\]", "", name).rsplit("/", 1)[-1]] += bool(name)
    return +found


def size(path):
    return quietly(lambda: path.stat().st_size, 0)


def disk(data):
    """Bytes and names of what is in a data folder."""
    scratch = [p for p in (data / "scratch").rglob("*")] if (data / "scratch").is_dir() else []
    return {"wal": size(data / "repquant.db-wal"), "db": size(data / "repquant.db"), "blobs": sum(size(p) for p in (data / "blobs").glob("??/*")),
            "scratch": sum(size(p) for p in scratch), "left": [p.name for p in scratch] + [p.name for p in (data / "blobs").glob("new.*")]}


class Watch(threading.Thread):
    """Measures every few seconds, until told to stop; of each row what is cheap, and what only the peak is wanted of."""

    def __init__(self, soak, seconds=2):
        super().__init__(daemon=True)
        self.soak, self.seconds, self.stopped, self.zombies, self.wrong = soak, seconds, threading.Event(), set(), []

    def run(self):
        while not self.stopped.wait(self.seconds):
            life = self.soak.life
            try:
                row = measured(self.soak.pid(), self.soak.daemon.data)
            except (OSError, AttributeError, TypeError, KeyError):
                continue                                    # it is being restarted
            if self.soak.life == life:
                self.look_for_zombies(row.pop("zombies"))
                self.soak.note("load", row)

    def look_for_zombies(self, zombies):
        """One that is there a second time is nobody's."""
        self.wrong += [f"the process {pid} is a zombie" for pid in zombies & self.zombies]
        self.zombies = zombies

    def end(self):
        self.stopped.set()
        self.join()


def measured(pid, data):
    child = children(pid)
    fds = descriptors(pid)
    threads = len(list(pathlib.Path(f"/proc/{pid}/task").iterdir()))
    return {**memory(pid), "fds": fds.total(), "kinds": dict(fds), "threads": threads, "children": len(child),
            "zombies": {p for p, state in child.items() if state == "Z"}, **disk(data), "at": time.monotonic()}


# ---- judgement: rows have "life", "age", "what" ("load" or "quiet") beside what was measured ----

def lives(rows, what="quiet"):
    """{life: its quiet rows in order}."""
    found = collections.defaultdict(list)
    for row in rows:
        if row["what"] == what:
            found[row["life"]].append(row)
    return found


def growth(quiet, of=lambda row: row["rss"]):
    """By how much a warm daemon's memory grew: the most that a later quiet moment had over the first. None if it was not warm for long."""
    warm = [of(row) for row in quiet if row["age"] >= WARM_S]
    return max(warm[1:]) - warm[0] if warm[1:] else None


def heap(row):
    """What only a leak makes grow."""
    return row["heap"] - row["database_memory"]


def across(found):
    """By how much more the last lives' memory was than the first ones', each at its first quiet moment; medians of three, since lives differ."""
    first = [quiet[0]["rss"] for _, quiet in sorted(found.items())]
    return sorted(first[-3:])[1] - sorted(first[:3])[1] if len(first) >= 6 else None


def judged(rows):
    """What is wrong with these measurements."""
    wrong, found = [], lives(rows)
    for life, quiet in sorted(found.items()):
        if (growth(quiet) or 0) > GROWTH:
            wrong.append(f"life {life}: memory grew by {growth(quiet) / MIB:.1f} MiB: {[round(r['rss'] / MIB, 1) for r in quiet]}")
        if (growth(quiet, heap) or 0) > HEAP:
            wrong.append(f"life {life}: its heap grew by {growth(quiet, heap) / MIB:.2f} MiB: {[round(heap(r) / MIB, 2) for r in quiet]}")
        for row in quiet:
            wrong += [f"life {life}: {text}" for text in not_quiet(row, quiet[0])]
    if (across(found) or 0) > ACROSS:
        wrong.append(f"from life to life memory grew by {across(found) / MIB:.1f} MiB")
    peak = max((row["wal"] for row in rows), default=0)
    return wrong + [f"the WAL had {peak / MIB:.0f} MiB"] * (peak > WAL)


def not_quiet(row, first):
    """What a quiet daemon holds that it should not, or did not hold at its first quiet moment."""
    if row["kinds"] != first["kinds"]:
        more, less = collections.Counter(row["kinds"]), collections.Counter(first["kinds"])
        yield f"{row['fds']} descriptors at {row['age']:.0f} s after {first['fds']}: more {dict(more - less)}, fewer {dict(less - more)}"
    if row["threads"] > first["threads"]:
        yield f"{row['threads']} threads at {row['age']:.0f} s after {first['threads']}"
    if row["children"]:
        yield f"{row['children']} children"
    if row["left"]:
        yield f"left over: {row['left'][:10]}"
