"""Clients that keep the books of what they were told, and what must hold of it however the daemon died.

A client works until nobody answers.  Afterwards check() asks the daemon for everything that was acknowledged, and disk_wrong() reads
what is on the disk of one that has stopped.  Both return violations in words; the tests want none.
"""
import collections
import contextlib
import hashlib
import itertools
import json
import re
import time

import pytest
import requests
from conftest import until
from receiver import Receiver, certificate
from support import digest_of

TUS = {"Tus-Resumable": "1.0.0"}
PART = {**TUS, "Content-Type": "application/offset+octet-stream"}
GONE = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
TERMINAL = ("succeeded", "failed", "canceled")
ENDS = [f"job.{state}" for state in TERMINAL]

# How often each chore is done, against the others.
UPLOADS = {"put": 15, "begin": 22, "part": 58, "drop": 5}
SUBMITS = {"model": 5, "submit": 45, "again": 18, "cancel": 14, "look": 5, "remove": 5, "save": 5, "unsave": 3}
PUBLISH = {"model": 40, "submit": 30, "follow": 25, "look": 5}
WEBHOOKS = {"model": 10, "submit": 20, "hooked": 40, "follow": 20, "ping": 10}
ALL = {"put": 6, "begin": 6, "part": 18, "drop": 2, "model": 10, "submit": 12, "hooked": 8, "again": 4, "cancel": 4, "follow": 16, "look": 4,
       "remove": 2, "ping": 2, "save": 3, "unsave": 2}


@pytest.fixture
def receiver(tmp_path):
    certificate(tmp_path)
    r = Receiver(tmp_path)
    yield r
    r.end()


def until_nothing_moves(condition, count, seconds=30):
    """Whether the condition came true before count() stood still for so long: a backlog takes the time it takes."""
    have, since = count(), time.monotonic()
    while not condition():
        now = count()
        if now != have:
            have, since = now, time.monotonic()
        elif time.monotonic() - since > seconds:
            return False
        time.sleep(0.05)
    return True


class Job:
    """What a client knows of a job of its own."""

    def __init__(self, body, key):
        self.body, self.key, self.id = body, key, None      # no id: the answer has not come
        self.state, self.canceled, self.removed = None, False, False    # the last is None while a DELETE was not answered
        self.events = {}                                    # seq -> event, as they were streamed


class Client:
    """One of several, each with a session, a seed and books of its own."""

    files = ("model.onnx", "report.json")                   # what its jobs leave when they succeed

    def __init__(self, daemon, rng, name, chores, receiver=None):
        self.daemon, self.rng, self.name, self.chores, self.receiver = daemon, rng, name, chores, receiver
        self.number, self.session = itertools.count(), None
        self.blobs, self.open, self.jobs = {}, {}, []       # digest -> bytes; path -> (bytes, acknowledged offset)
        self.models = {}                                    # id -> what its jobs write, or None if they fail
        self.recipes = {}                                   # name -> [pattern, is it there], the last None while that was not answered
        self.changes = []                                   # (X-Request-Id, status) of what the audit log must tell
        self.pings, self.hook, self.wrong = [], None, []    # wrong: answers that cannot be

    def ask(self, method, path, changes=False, **more):
        answer = self.session.request(method, self.daemon.url + path, **{"timeout": 30, **more})
        if changes and answer.ok:               # one that was answered before, too: it is a request like others
            self.changes.append((answer.headers["X-Request-Id"], answer.status_code))
        return answer

    def expect(self, answer, *statuses):
        if answer.status_code not in statuses:
            self.wrong.append(f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text[:300]}")
        return answer.status_code in statuses

    def child_lost(self, answer):
        """The process that was to look into the model for this answer was killed: the request may be repeated."""
        return answer.status_code == 500 and answer.json()["code"] == "worker.lost"

    def connect(self):
        """To a daemon that has started anew."""
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {self.daemon.token}"

    def furnish(self):
        """What jobs need, before anything goes wrong."""
        self.connect()
        self.data = self.ask("PUT", f"/v1/datasets?name={self.name}", data=b'#inspect result result.json {"format":"npz","samples":4}\n').json()["id"]
        self.model()
        failing = self.ask("PUT", "/v1/models?name=failing", data=b"#quantize stage preparing; problem model.invalid no so\n")
        self.models[failing.json()["id"]] = None
        if self.receiver:
            hook = {"url": f"{self.receiver.url}/{self.name}/200", "events": ENDS}
            self.hook = self.ask("POST", "/v1/webhooks", json=hook).json()["id"]

    def work(self, steps=10**9):
        """Until nobody answers."""
        self.connect()
        names, weights = list(self.chores), list(self.chores.values())
        for _ in range(steps):
            getattr(self, self.rng.choices(names, weights)[0])()
            if self.wrong:
                return

    def work_until_death(self):
        with contextlib.suppress(*GONE):
            self.work()
        self.session.close()

    # ---- uploads ----

    def put(self):
        data = self.rng.randbytes(self.rng.randrange(1, 3000))
        digest = digest_of(data)
        if self.expect(self.ask("PUT", f"/v1/blobs/{digest}", True, data=data), 201):
            self.blobs[digest] = data

    def begin(self):
        data = self.rng.randbytes(self.rng.randrange(1, 20_000))
        answer = self.ask("POST", "/v1/uploads", True, headers={**TUS, "Upload-Length": str(len(data))})
        if self.expect(answer, 201):
            self.open[answer.headers["Location"]] = (data, 0)

    def part(self):
        if not self.open:
            return self.begin()
        path = self.rng.choice(sorted(self.open))
        data, at = self.open[path]
        end = min(len(data), at + self.rng.randrange(1, 9000))
        if self.expect(self.ask("PATCH", path, True, headers={**PART, "Upload-Offset": str(at)}, data=data[at:end]), 204):
            self.open[path] = (data, end)
            if end == len(data):
                self.uploaded(path, data)

    def uploaded(self, path, data):
        self.open.pop(path, None)
        self.blobs[digest_of(data)] = data

    def drop(self):
        if self.open:
            path = self.rng.choice(sorted(self.open))
            self.open.pop(path)                             # gone or not: nothing was promised before the answer
            self.expect(self.ask("DELETE", path, True, headers=TUS), 204)

    # ---- jobs ----

    def model(self):
        """Its jobs write a text that no others do, so that it is a new blob that is published."""
        text = f"{self.name}-{next(self.number)}-{self.rng.random()}"
        script = f"stage calibrating; layer 1; sleep {self.rng.randrange(30)}; stage quantizing; result model.onnx {text}; result report.json {{}}"
        answer = self.ask("PUT", f"/v1/models?name={self.name}", True, data=f"#quantize {script}\n".encode())
        if not self.child_lost(answer) and self.expect(answer, 201):
            self.models[answer.json()["id"]] = text

    def submit(self, **more):
        model = self.rng.choice(list(self.models)[-4:] + list(self.models)[1:2])
        key = f"{self.name}-{next(self.number)}"
        body = {"type": "quantize", "model_id": model, "dataset_id": self.data, "recipe": "minmax-w8a8", "max_attempts": 100, "labels": {"key": key}}
        body.update(more)
        self.jobs.append(Job(body, key))
        self.send(self.jobs[-1])

    def hooked(self):
        """With a webhook of its own, whose receiver is not well at first."""
        self.submit(webhook={"url": f"{self.receiver.url}/own-{self.name}-{next(self.number)}/503,200", "events": ENDS})

    def send(self, job):
        answer = self.ask("POST", "/v1/jobs", True, json=job.body, headers={"Idempotency-Key": job.key})
        if self.child_lost(answer) or not self.expect(answer, 202):
            return
        if job.id and answer.json()["id"] != job.id:
            self.wrong.append(f"the key {job.key} gave {job.id} and {answer.json()['id']}")
        job.id = answer.json()["id"]

    def known(self, *states):
        """A recent job that was acknowledged and whose state, as far as we have heard, is one of these."""
        jobs = [j for j in self.jobs[-30:] if j.id and j.removed is False and j.state in states]
        return self.rng.choice(jobs) if jobs else None

    def again(self):
        job = self.known(None, *TERMINAL)
        if job:
            self.send(job)

    def cancel(self):
        job = self.known(None)
        if job:
            self.cancel_job(job)

    def cancel_job(self, job):
        job.canceled = job.canceled or None                 # asked for, and not answered
        answer = self.ask("POST", f"/v1/jobs/{job.id}/cancel", True)
        if self.expect(answer, 200, 202, 409):
            job.canceled = answer.status_code != 409 or bool(job.canceled)

    def remove(self):
        job = self.known(*TERMINAL)
        if job:
            job.removed = None
            if self.expect(self.ask("DELETE", f"/v1/jobs/{job.id}", True), 204):
                job.removed = True

    def look(self):
        job = self.known(*TERMINAL)
        if job:
            self.wrong += self.ended_wrongly(job, self.ask("GET", f"/v1/jobs/{job.id}").json())

    def follow(self):
        """The stream of a job from where it was left, to its end unless the daemon dies."""
        job = self.known(None)
        if not job:
            return
        last = max(job.events, default=0)
        answer = self.ask("GET", f"/v1/jobs/{job.id}/events", stream=True, headers={"Accept": "text/event-stream", "Last-Event-ID": str(last)})
        if not self.expect(answer, 200, 204):
            return
        for line in answer.iter_lines():
            event = json.loads(line[6:]) if line.startswith(b"data: ") else {}
            if "seq" not in event:
                continue
            if event["seq"] != last + 1:
                self.wrong.append(f"the stream of {job.id} goes on after {last} with {event['seq']}")
            last = event["seq"]
            job.events[last] = event
        job.state = self.ask("GET", f"/v1/jobs/{job.id}").json()["state"]

    # ---- recipes ----

    def saved(self):
        """Names that were acknowledged."""
        return [name for name, (_, there) in self.recipes.items() if there]

    def save(self):
        if len(self.saved()) > 5:           # a team has room for so many
            return self.unsave()
        name, pattern = re.sub("[^a-z0-9]", "-", f"r-{self.name}-{next(self.number)}".lower()), f"*{self.rng.random()}*"
        self.recipes[name] = [pattern, None]
        answer = self.ask("POST", "/v1/recipes", True, json={"name": name, "recipe": {"preset": "minmax-w8a8", "exclude": [pattern]}})
        if self.expect(answer, 201):
            self.recipes[name][1] = True

    def unsave(self):
        if self.saved():
            name = self.rng.choice(self.saved())
            self.recipes[name][1] = None
            if self.expect(self.ask("DELETE", f"/v1/recipes/{name}", True), 204):
                self.recipes[name][1] = False

    def recipe_wrong(self, name, pattern, there):
        answer = self.ask("GET", f"/v1/recipes/{name}")
        if answer.status_code != 200 if there else answer.status_code != 404 and there is False:
            return [f"the recipe {name}: {answer.status_code}, it is there: {there}"]
        self.recipes[name][1] = answer.status_code == 200
        return [f"the recipe {name} is {answer.text}"] if answer.ok and answer.json()["exclude"] != [pattern] else []

    def ping(self):
        answer = self.ask("POST", f"/v1/webhooks/{self.hook}/ping", True)
        if self.expect(answer, 202):
            self.pings.append(answer.headers["Location"])

    # ---- what must hold ----

    def check(self, whole=True):
        """What does not hold of what this client knows.  whole: waits for the ends of all jobs; otherwise only what is true at once of the latest.
        Takes over what got further than was heard of."""
        self.connect()
        wrong, self.wrong = self.wrong, []
        for job in self.jobs:
            if not job.id:
                self.send(job)
        blobs = list(self.blobs.items())[0 if whole else -20:]
        wrong += [f"{digest} is lost" for digest, data in blobs if self.ask("GET", f"/v1/blobs/{digest}").content != data]
        for path, (data, at) in list(self.open.items()):
            wrong += self.upload_wrong(path, data, at)
        for job in self.jobs[0 if whole else -10:]:
            wrong += self.job_wrong(job, whole)
        for name, (pattern, there) in list(self.recipes.items())[0 if whole else -10:]:
            wrong += self.recipe_wrong(name, pattern, there)
        if whole and self.receiver:
            wrong += self.deliveries_wrong()
        return wrong + self.wrong

    def upload_wrong(self, path, data, at):
        row = self.ask("GET", path)
        if row.status_code != 200 or row.json()["offset"] < at:
            return [f"{path} had {at} bytes: {row.status_code} {row.text}"]
        if row.json()["digest"]:
            self.uploaded(path, data)
        else:
            self.open[path] = (data, row.json()["offset"])
        return []

    def job_wrong(self, job, whole):
        answer = self.ask("GET", f"/v1/jobs/{job.id}")
        if job.removed is not False and answer.status_code == 404:
            job.removed = True                              # also where the DELETE was not answered
            return []
        if job.removed is True or answer.status_code != 200:
            return [f"{job.id}: {answer.status_code}, removed: {job.removed}"]
        job.removed = False                                 # the DELETE that was not answered did not come to be
        row = answer.json()
        if whole:
            row = until(lambda: (r := self.ask("GET", f"/v1/jobs/{job.id}").json())["state"] in TERMINAL and r, 120, f"the end of {job.id}")
        wrong = []
        if job.state in TERMINAL and row["state"] != job.state:
            wrong.append(f"{job.id} was {job.state} and is {row['state']}")
        if row["state"] in TERMINAL:
            job.state = row["state"]
            wrong += self.ended_wrongly(job, row)
        return wrong + self.events_wrong(job, row)

    def ended_wrongly(self, job, row):
        """Of a job that has ended: its state, and the artifacts that it has or has not."""
        text = self.models[job.body["model_id"]]
        may = ["canceled"] if job.canceled else ["succeeded" if text else "failed"] + ["canceled"] * (job.canceled is None)
        if row["state"] not in may:
            return [f"{job.id} should be {may} and is {row['state']}: {row['problem']}"]
        artifacts = self.ask("GET", f"/v1/jobs/{job.id}/artifacts").json()["data"]
        if sorted(a["name"] for a in artifacts) != (list(self.files) if row["state"] == "succeeded" else []):
            return [f"{job.id} is {row['state']} and has {artifacts}"]
        wrong = []
        for a in artifacts:
            got = self.ask("GET", f"/v1/artifacts/{a['id']}/content").content
            if digest_of(got) != a["digest"] or (a["name"] == "model.onnx" and not self.is_right(job, got)):
                wrong.append(f"{job.id}: {a['name']} is {got[:80]}")
        return wrong

    def is_right(self, job, got):
        """Whether these bytes are the model that the job was to make."""
        return got == self.models[job.body["model_id"]].encode()

    def events_wrong(self, job, row):
        events = self.ask("GET", f"/v1/jobs/{job.id}/events", params={"limit": 1000}).json()["data"]
        now = self.ask("GET", f"/v1/jobs/{job.id}").json()
        if now["state"] != row["state"] and row["state"] not in TERMINAL:
            return self.events_wrong(job, now)              # it went on while it was asked about
        names = collections.Counter(e["type"] for e in events)
        wrong = []
        if [e["seq"] for e in events] != list(range(1, len(events) + 1)):
            wrong.append(f"{job.id} has the events {[e['seq'] for e in events]}")
        if any(events[seq - 1:seq] != [e] for seq, e in job.events.items()):
            wrong.append(f"{job.id} has other events than were streamed")
        ends = {name: names[name] for name in ENDS if names[name]}
        if ends != ({f"job.{row['state']}": 1} if row["state"] in TERMINAL else {}) or names["artifact.created"] != len(self.files) * (row["state"] == "succeeded"):
            wrong.append(f"{job.id} is {row['state']} and has the events {dict(names)}")
        return wrong

    def deliveries_wrong(self):
        """Each end has come, under one webhook-id, to every receiver that was to hear of it; and nothing came of which the service knows nothing."""
        kept = [j for j in self.jobs if j.removed is False]
        own = {j.id: j.body["webhook"]["url"].removeprefix(self.receiver.url) for j in kept if "webhook" in j.body}
        wanted = {(f"/{self.name}/200", j.id) for j in kept} | {(path, i) for i, path in own.items()}

        def missing():
            return wanted - {(path, e["subject"]) for path, _, e in self.deliveries() if e["type"].removeprefix("io.repquant.") in ENDS}

        def come():
            return not missing() and all(self.ask("GET", path).json()["state"] == "delivered" for path in self.pings)

        if not until_nothing_moves(come, lambda: len(self.receiver.calls)):
            return [f"no delivery of {missing()} of {self.ask('GET', f'/v1/webhooks/{self.hook}').json()}"]
        wrong, ids, bodies, states = [], {}, {}, {j.id: j.state for j in kept}
        for path, i, e in self.deliveries():
            name = e["type"].removeprefix("io.repquant.")
            if name in ENDS and e["subject"] in states and name != f"job.{states[e['subject']]}":
                wrong.append(f"{e['subject']} is {states[e['subject']]} and {path} was told {name}")
            if ids.setdefault((path, e.get("subject"), e.get("sequence"), i if name == "ping" else None), i) != i:
                wrong.append(f"{path} was told of one event of {e['subject']} under two ids")
            if bodies.setdefault((path, i), e) != e:
                wrong.append(f"{path} got {i} with two bodies")
        return wrong

    def deliveries(self):
        with self.receiver.mu:
            calls = list(self.receiver.calls)
        return [(c.path, c.headers["webhook-id"], json.loads(c.body)) for c in calls if c.path.startswith((f"/{self.name}/", f"/own-{self.name}-"))]


def jobs_of_key(client):
    """Each key has made one job, whether or not its first answer came."""
    wrong = []
    for job in client.jobs:
        made = client.ask("GET", "/v1/jobs", params={"label": f"key:{job.key}"}).json()["data"]
        if len(made) != (job.removed is False):
            wrong.append(f"the key {job.key} has made {[j['id'] for j in made]}")
    return wrong


def disk_wrong(daemon, clients, used):
    """Of the data folder of a daemon that has stopped: files, rows, the `used` quota and what jobs were promised of the disk agree; the audit log
    has each acknowledged change once."""
    wrong = []
    files = {f"sha256:{p.name}": p for p in (daemon.data / "blobs").glob("??/*")}
    with daemon.database() as lite:
        def rows(sql):
            return lite.execute(sql).fetchall()
        wrong += [f"integrity_check: {r[0]}" for r in rows("PRAGMA integrity_check") if r[0] != "ok"]
        wrong += [f"foreign_key_check: {r}" for r in rows("PRAGMA foreign_key_check")]
        named = dict(rows("SELECT digest, size FROM blobs"))
        noted = collections.Counter(rows("SELECT request, status FROM audit"))
        unfinished = {r[0] for r in rows("SELECT id FROM uploads")}
        owned = [len(files[r[0]].read_bytes()) for r in rows("SELECT digest FROM blob_owners WHERE team = 'local'") if r[0] in files]
        coming = [r[0] for r in rows("SELECT length FROM uploads WHERE digest = '' AND problem IS NULL")]
        promised = [rows(sql)[0][0] for sql in ("SELECT bytes FROM promised", "SELECT coalesce(sum(reserved), 0) FROM jobs WHERE state IN "
                                                "('queued', 'running', 'canceling')")]
        broken = rows("SELECT id, state FROM jobs WHERE state NOT IN ('succeeded', 'failed', 'canceled')")
    wrong += [f"{digest} is a row and no file" for digest in named.keys() - files.keys()]
    wrong += [f"{digest} is a file and no row" for digest in files.keys() - named.keys()]
    for digest, path in files.items():
        data = path.read_bytes()
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest or named.get(digest, len(data)) != len(data):
            wrong.append(f"the bytes of {digest} are others")
    wrong += [f"{p.name} was left over" for p in (daemon.data / "blobs").iterdir() if p.is_file() and p.name not in unfinished]
    wrong += [f"{p.name} was left in scratch" for p in (daemon.data / "scratch").iterdir()]
    wrong += [f"{r} has not ended" for r in broken]
    if used != {"running": 0, "queued": 0, "bytes": sum(owned) + sum(coming)}:
        wrong.append(f"{used} is in use of the quota, {sum(owned)} bytes are owned and {sum(coming)} on their way")
    if promised[0] != promised[1]:
        wrong.append(f"{promised[0]} bytes of the disk are promised to jobs, whose rows say {promised[1]}")
    wrong += [f"{n} rows of the audit log tell of {change}" for c in clients for change in c.changes if (n := noted[change]) != 1]
    return wrong
