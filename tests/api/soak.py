"""A daemon under mixed load for as long as one likes: clients of all kinds, restarts, kills, quiet moments in which it is measured and the
books are checked.

soak_load.py has the clients, soak_watch.py the measurements and what they are judged by.  A soak can be put away between two pieces: the
daemon goes on, its clients' books are kept in a file.
"""
import collections
import contextlib
import json
import os
import pickle
import random
import select
import signal
import subprocess
import threading
import time
import traceback

from conftest import LIMITS, REPQUANTD, Daemon, preloaded, until
from history import GONE, disk_wrong
from receiver import Receiver, certificate
from soak_load import Keeper, TurnedAway, clients, kind
from soak_watch import Watch, children, descriptors, disk, judged, measured
from support import digest_of

DAY_S = 86400
OPTIONS = {"keep-free": "0", "uploads": "100000", "webhooks": "1000", "rate": "0", "workers": "2", "outbound-private": "127.0.0.1/32,::1",
           "max-upload": "16M", "webhook-retries": "0,1,1,2,2,3,3,5,5,5,10,10", "webhook-timeout": "3", "log-level": "info", "threads": "1", **LIMITS}
KEPT = ("counts", "requests", "done", "days", "life", "born", "rows", "pieces", "seed", "loaded")


class Adopted:
    """A process that an earlier run of ours started: what Daemon needs of subprocess.Popen."""

    def __init__(self, pid):
        self.pid, self.fd = pid, os.pidfd_open(pid)

    def poll(self):
        return 0 if select.select([self.fd], [], [], 0)[0] else None

    def wait(self, seconds=None):
        if not select.select([self.fd], [], [], seconds)[0]:
            raise subprocess.TimeoutExpired("repquantd", seconds)
        return 0                                            # the status is for its new parent; ended() looks into the log

    def terminate(self):
        signal.pidfd_send_signal(self.fd, signal.SIGTERM)

    def kill(self):
        signal.pidfd_send_signal(self.fd, signal.SIGKILL)


class Gate:
    """Through which clients go for each chore; closed, it waits until all are back."""

    def __init__(self):
        self.changed, self.is_open, self.over, self.inside = threading.Condition(), False, False, 0

    def enter(self):
        """False: it is all over."""
        with self.changed:
            self.changed.wait_for(lambda: self.is_open or self.over)
            self.inside += not self.over
            return not self.over

    def leave(self):
        with self.changed:
            self.inside -= 1
            self.changed.notify_all()

    def open(self):
        with self.changed:
            self.is_open = True
            self.changed.notify_all()

    def close(self, seconds=120):
        with self.changed:
            self.is_open = False
            return self.changed.wait_for(lambda: not self.inside, seconds)

    def end(self):
        with self.changed:
            self.is_open, self.over = False, True
            self.changed.notify_all()


class Soak:
    """folder: for everything; program: what the daemon runs for a job (build/tools/either_job)."""

    def __init__(self, folder, program, seed="soak"):
        self.folder, self.program, self.seed = folder, program, seed
        self.rng, self.wrong, self.shared = random.Random(f"{seed} {os.getpid()}"), [], {}
        self.mu, self.gate, self.up = threading.Lock(), Gate(), threading.Event()
        self.counts, self.requests, self.done, self.rows = collections.Counter(), collections.Counter(), {}, []
        self.days, self.life, self.born, self.pieces, self.loaded = 0, 0, 0.0, 0, 0.0
        self.threads, self.watch, self.clients, self.receiver = [], None, [], None
        folder.mkdir(parents=True, exist_ok=True)
        self.daemon = Daemon(folder, program, {**OPTIONS, "outbound-ca": str(folder / "cert")})
        self.daemon.how = {"start_new_session": True}

    # ---- books of all ----

    def tell(self, what, n=1):
        with self.mu:
            self.counts[what] += n

    def counted(self, answer, method, path):
        with self.mu:
            self.requests[kind(method, path), answer.status_code] += 1
        if answer.status_code == 503:
            raise TurnedAway(answer.text[:200])
        return answer

    def note(self, what, row):
        with self.mu:
            self.rows.append({"what": what, "life": self.life, "age": time.time() - self.born, **row})

    def pid(self):
        return self.daemon.process.pid

    def idle(self, seconds):
        """What a client thinks about between two requests."""
        with self.gate.changed:
            self.gate.changed.wait_for(lambda: self.gate.over, seconds)

    # ---- begin, put away, take up ----

    def begin(self):
        certificate(self.folder, 30)                        # days pass on the clock of the daemon
        self.start()
        self.receiver = Receiver(self.folder)
        self.clients = clients(self)
        for client in self.clients:
            client.furnish()
        return self

    def put_away(self):
        """In a quiet moment: the daemon goes on."""
        state = {name: getattr(self, name) for name in KEPT} | {"pid": self.pid(), "clients": {c.name: c.__getstate__() for c in self.clients}}
        (self.folder / "state.new").write_bytes(pickle.dumps(state))
        (self.folder / "state.new").rename(self.folder / "state")
        self.receiver.end()

    def take_up(self):
        """What was put away; the daemon is started if it has gone in the meantime (a reboot)."""
        state = pickle.loads((self.folder / "state").read_bytes())
        for name in KEPT:
            setattr(self, name, state[name])
        (self.folder / "state").unlink()                    # who fails has none
        self.receiver = Receiver(self.folder)
        self.clients = clients(self)
        self.adopt(state["pid"])
        for client in self.clients:
            client.__dict__.update(state["clients"][client.name])
            client.connect()
            if getattr(client, "hook", None):
                url = {"url": f"{self.receiver.url}/{client.name}/200"}
                client.expect(client.ask("PATCH", f"/v1/webhooks/{client.hook}", json=url, changes=True), 200)
        return self

    def adopt(self, pid):
        command = f"/proc/{pid}/cmdline"
        if not os.path.exists(command) or f"--data={self.daemon.data}" not in open(command).read().split("\0"):
            self.tell("gone between pieces")
            return self.start()
        self.daemon.process = Adopted(pid)
        self.daemon.launch = lambda: None                   # start() then only finds what is there
        self.daemon.start()
        del self.daemon.launch
        self.up.set()

    # ---- the daemon's life ----

    def start(self):
        (self.folder / "port").unlink(missing_ok=True)
        if self.days:
            (self.folder / "clock").write_bytes(round(self.days * DAY_S).to_bytes(8, "little"))
            self.daemon.environment = {"LD_PRELOAD": str(preloaded(self.folder, "tools/clockshift.c")), "CLOCK_FILE": str(self.folder / "clock")}
        begun = time.monotonic()
        self.daemon.start()
        self.counts["slowest start ms"] = max(self.counts["slowest start ms"], round(1000 * (time.monotonic() - begun)))
        self.life, self.born = self.life + 1, time.time()
        self.tell("lives")
        self.up.set()

    def end(self, sig=signal.SIGTERM):
        self.up.clear()
        process, self.daemon.process = self.daemon.process, None
        self.daemon.session.close()
        orphans = list(self.opened(children(process.pid))) if sig == signal.SIGKILL else []
        process.terminate() if sig == signal.SIGTERM else process.kill()
        status = process.wait(60)
        if sig == signal.SIGTERM and status != 0:
            self.wrong.append(f"SIGTERM ended it with {status}")
        self.tell("SIGTERM" if sig == signal.SIGTERM else "SIGKILL")
        return orphans

    @staticmethod
    def opened(pids):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):   # it has just ended
                yield os.pidfd_open(pid)

    def bury(self, orphans):
        """The processes of jobs end with their daemon, even those whose script is to hang."""
        end = time.monotonic() + 5
        for fd in orphans:
            if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
                self.wrong.append("the process of a job outlived its daemon")
            os.close(fd)

    def restart(self, sig):
        orphans = self.end(sig)
        self.start()
        self.bury(orphans)

    def pass_a_day(self):
        """Stops it, lets a day and an hour go by, starts it: what nobody owns any more is removed. The books forget what is kept for a day only."""
        before = disk(self.daemon.data)["blobs"]
        self.end()
        self.days += 1 + 1 / 24
        self.start()
        for client in self.clients:
            if isinstance(client, Keeper):
                client.blobs, client.open = {}, {}
            client.recover()
            self.wrong += client.wrong
        until(lambda: not self.superfluous(), 60, f"the removal of what nobody owns, {self.superfluous()[:5]}")
        self.tell("bytes swept", before - disk(self.daemon.data)["blobs"])
        self.tell("days passed")

    def superfluous(self):
        """What is on the disk or in the table of blobs and belongs to no model, data set or job; and uploads that have not ended."""
        with self.daemon.database() as lite:
            named = {row[0] for row in lite.execute("SELECT digest FROM blobs")}
            used = {row[0] for row in lite.execute("SELECT digest FROM asset_files UNION SELECT digest FROM artifacts")}
        files = {f"sha256:{p.name}" for p in (self.daemon.data / "blobs").glob("??/*")}
        return sorted((named | files) - used) + [p.name for p in (self.daemon.data / "blobs").glob("*_*")]

    # ---- load ----

    def work(self, client):
        """A client's thread."""
        while self.gate.enter():
            try:
                life = self.life
                client.chore()
            except GONE as e:
                self.nobody_answered(client, life, e)
                self.recover(client)
            except Exception:
                self.wrong.append(f"{client.name}: {traceback.format_exc()}")
            finally:
                self.gate.leave()
            if client.wrong or self.wrong:
                return
            self.idle(client.rng.expovariate(client.pace))

    def recover(self, client):
        """In the same turn: what a client had begun may hold others up, who are waited for."""
        while client.lost and not self.wrong:
            life = self.life
            try:
                client.recover()
                client.lost = False
            except GONE as e:
                self.nobody_answered(client, life, e)
            except Exception:
                self.wrong.append(f"{client.name}: {traceback.format_exc()}")

    def nobody_answered(self, client, life, why):
        """It is restarted: then the client waits. Otherwise it should not have happened."""
        client.lost = True
        if isinstance(why, TurnedAway):
            self.tell("turned away")
            self.idle(0.2)
        elif self.up.is_set() and self.life == life:
            self.idle(1)                                    # who restarts it says so within that time
            if self.up.is_set() and self.life == life and self.daemon.process:
                self.wrong.append(f"{client.name} got no answer of a daemon that works: {why!r}")
        else:
            self.tell("requests cut")
        self.up.wait(60)

    def load(self, seconds, restarts=()):
        """So many seconds of work; restarts are (at, signal)."""
        begun, left = time.monotonic(), sorted(restarts)
        self.begin_work()
        while ((now := time.monotonic() - begun) < seconds or left) and not self.failed():
            if left and now >= left[0][0]:
                self.restart(left.pop(0)[1])
            self.disturb()
            time.sleep(0.5)                                 # a beat, not a wait
        self.loaded += time.monotonic() - begun

    def begin_work(self):
        if not self.threads:
            self.watch = Watch(self)
            self.watch.start()
            self.threads = [threading.Thread(target=self.work, args=(c,), daemon=True) for c in self.clients]
            for t in self.threads:
                t.start()
        self.gate.open()

    def failed(self):
        if self.daemon.process.poll() is not None:
            self.wrong.append("the daemon has died by itself: " + self.daemon.log.read_text()[-4000:])
        return self.wrong or any(c.wrong for c in self.clients) or self.watch.wrong

    def disturb(self):
        """Now and then the process of a job is killed, and the receiver of webhooks is not well for some seconds."""
        with contextlib.suppress(OSError):
            if self.rng.random() < 0.01:
                os.kill(self.rng.choice(list(children(self.pid())) or [0x7fffffff]), signal.SIGKILL)
                self.tell("jobs' processes killed")
        paths = [f"/{c.name}/200" for c in self.clients if getattr(c, "receiver", None)]
        if self.rng.random() < 0.02:
            self.receiver.instead = {path: self.rng.choice(["503", "wait"]) for path in paths}
            self.tell("receiver unwell")
        elif self.rng.random() < 0.2:
            self.receiver.instead = {}

    # ---- quiet moments ----

    def quiet(self):
        """Everybody stops, the queue runs empty, connections are closed; then it is measured, and the books are checked."""
        if not self.gate.close():
            self.wrong.append("clients do not come back")
        self.receiver.instead = {}
        if self.failed():
            return
        open_states = ("queued", "running", "canceling")
        until(lambda: not any(self.daemon("GET", "/v1/queue").json()["jobs"].get(s) for s in open_states), 180, "an empty queue")
        self.until_nothing_is_sent()
        until(lambda: self.gauge("repquant_upload_held_bytes") == 0, 60, "the end of what uploads hold of quotas")
        told = {name: self.gauge(f"repquant_{name}_bytes") for name in ("heap", "database_memory")}
        for session in (self.daemon.session, *(c.session for c in self.clients)):
            session.close()
        self.measure(told)
        self.check()

    def gauge(self, name):
        return next(int(float(line.split()[1])) for line in self.daemon("GET", "/metrics").text.splitlines() if line.startswith(name + " "))

    def until_nothing_is_sent(self):
        """No delivery waits that can be made."""
        paths = [f"/v1/webhooks/{c.hook}/deliveries?state=pending&limit=1" for c in self.clients if getattr(c, "hook", None)]
        until(lambda: not any(self.daemon("GET", path).json()["data"] for path in paths), 120, "the end of deliveries")

    def measure(self, told):
        """Once what it held of the load is given back; what is not within half a minute is judged as it is."""
        first = next((row for row in self.rows if row["life"] == self.life and row["what"] == "quiet"), None)
        kinds = first["kinds"] if first else None

        def settled():
            pid, there = self.pid(), disk(self.daemon.data)
            return not children(pid) and not there["left"] and (dict(descriptors(pid)) == kinds if kinds else descriptors(pid)["socket"] <= 1)
        with contextlib.suppress(AssertionError):
            until(settled, 30)
        self.until_given_back()
        row = measured(self.pid(), self.daemon.data)
        row.pop("zombies")
        self.note("quiet", row | told)

    def until_given_back(self):
        """What free() left to malloc is the system's again within ten seconds (server/heap.h); where nothing was left none of that is seen."""
        before = measured(self.pid(), self.daemon.data)["rss"]
        with contextlib.suppress(AssertionError):
            until(lambda: measured(self.pid(), self.daemon.data)["rss"] < before - (128 << 10), 11)

    def check(self):
        """The books, of all at a time; what is through is folded away."""
        keepers = [c for c in self.clients if isinstance(c, Keeper)]
        found = []
        threads = [threading.Thread(target=lambda c=c: found.extend(self.checked(c))) for c in keepers]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.wrong += found
        for client in keepers:
            for job_id, state, key, type_ in client.fold():
                self.done[job_id] = (state, key, type_)
        with self.receiver.mu:
            self.tell("deliveries", len(self.receiver.calls))
            self.receiver.calls.clear()
        self.tell("checks")

    def checked(self, client):
        try:
            return client.check()
        except Exception:
            return [f"{client.name}: {traceback.format_exc()}"]

    # ---- the end ----

    def stop_clients(self):
        self.gate.end()
        for t in self.threads:
            t.join(120)
        if self.watch:
            self.watch.end()
            self.wrong += self.watch.wrong
        for client in self.clients:
            self.wrong += client.wrong
        self.threads = []

    def judge(self):
        """At the end: every job once, every artifact whole, the disk as the books say, the measurements flat, no errors in the log."""
        self.wrong += self.jobs_wrong()
        used = self.daemon("GET", "/v1/teams/local").json()["used"]
        self.end()
        self.wrong += disk_wrong(self.daemon, [c for c in self.clients if isinstance(c, Keeper)], used) + judged(self.rows)
        self.wrong += self.log_wrong() + self.not_whole()
        return self.wrong

    def not_whole(self):
        """What `repquantd verify` finds in the data folder and in the last backup."""
        folders = [p for p in (self.daemon.data, self.folder / "backup") if p.exists()]
        ended = [subprocess.run([REPQUANTD, "verify", p], capture_output=True, text=True) for p in folders]
        return [e.stdout + e.stderr for e in ended if e.returncode or "all whole" not in e.stdout + e.stderr]

    def jobs_wrong(self):
        """Each job that was acknowledged is there once and as it ended; what it made has its digest."""
        rows, path = {}, "/v1/jobs?limit=200"
        while path:
            page = self.daemon("GET", path).json()
            for row in page["data"]:
                rows[row["id"]] = row
            path = page.get("next_cursor") and f"/v1/jobs?limit=200&cursor={page['next_cursor']}"
        keys = collections.Counter(r["request"]["labels"].get("key") for r in rows.values())
        wrong = [f"the key {key} has made {n} jobs" for key, n in keys.items() if n != 1]
        for job_id, (state, _, _) in self.done.items():
            now = rows.pop(job_id, {"state": "deleted"})["state"]
            wrong += [f"{job_id} was {state} and is {now}"] if now != state else self.artifacts_wrong(job_id) if state == "succeeded" else []
        return wrong + [f"{job_id} is {row['state']} and in no books" for job_id, row in rows.items()]

    def artifacts_wrong(self, job_id):
        rows = self.daemon("GET", f"/v1/jobs/{job_id}/artifacts").json()["data"]
        self.tell("artifacts downloaded at the end", len(rows))
        return [f"{job_id}: {a['name']}" for a in rows if digest_of(self.daemon("GET", f"/v1/artifacts/{a['id']}/content").content) != a["digest"]]

    def log_wrong(self):
        """Errors that the daemon itself tells of, but for the processes that we killed."""
        wrong = []
        for line in self.daemon.log.read_text(errors="replace").splitlines():
            if ('"level":"error"' in line and '"error":"worker.lost"' not in line) or "internal.bug" in line:
                wrong.append(line[:500])
        return wrong[:20]

    def told(self):
        """Everything that was counted, for a file."""
        return {**{name: getattr(self, name) for name in ("counts", "days", "life", "pieces", "loaded")},
                "requests": {f"{k} {status}": n for (k, status), n in sorted(self.requests.items())},
                "states": collections.Counter(state for state, _, _ in self.done.values()), "rows": self.rows}

    def save(self):
        (self.folder / "figures.json").write_text(json.dumps(self.told(), default=str))
