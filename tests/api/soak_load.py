"""The clients of the soak: who uploads and quantizes, who cancels in storms, who reads, who sends rubbish, who administers.

Those that make jobs keep the books of history.py.  All of them live through restarts: whoever gets no answer waits until the daemon is there again,
then asks about what it does not know, and repeats what has a key.
"""
import contextlib
import random
import re
import socket
import struct
import subprocess

import requests
from conftest import REPQUANTD
from history import ALL, ENDS, PART, TUS, Client
from hostile import bad_arrays, damaged, lies, other_kinds
from support import DIGITS, digest_of

ID = re.compile(r"\b(job|mdl|ds|art|upl|whk|evt|tok|dlv)_[0-9A-Za-z]+|sha256:[0-9a-f]{64}")


def kind(method, path):
    """A request's kind: its method, and its path without ids and query."""
    path = re.sub(r"^(/v1/teams/).+", r"\1*", ID.sub("*", path.split("?")[0]))
    return f"{method} {path}"


class TurnedAway(requests.ConnectionError):
    """503: the daemon is about to end, or has too much to do; nothing was done."""


class Worker:
    """One of the soak's clients, on a thread of its own."""

    chores, pace = {}, 3.0                                  # name -> how often; chores a second, about

    def __init__(self, soak, name):
        self.soak, self.name, self.rng, self.daemon = soak, name, random.Random(f"{soak.seed} {name}"), soak.daemon
        self.session, self.wrong, self.lost = None, [], False

    def __getstate__(self):
        """Its books, without what belongs to a process."""
        return {k: v for k, v in self.__dict__.items() if k not in ("soak", "daemon", "session", "receiver")}

    def connect(self):
        """Anew: tokens and the port may be others."""
        if self.session:
            self.session.close()
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {self.daemon.token}"

    def ask(self, method, path, **more):
        return self.soak.counted(self.session.request(method, self.daemon.url + path, **{"timeout": 60, **more}), method, path)

    def chore(self):
        """A random one."""
        names, weights = list(self.chores), list(self.chores.values())
        getattr(self, self.rng.choices(names, weights)[0])()

    def furnish(self):
        self.connect()

    def recover(self):
        """After no answer."""
        self.connect()


# ---- who keeps books ----

class Keeper(Worker, Client):
    """A client of history.py that goes on."""

    def __init__(self, soak, name, chores, receiver=None):
        Client.__init__(self, soak.daemon, random.Random(f"{soak.seed} {name}"), name, chores, receiver)
        self.soak, self.lost, self.hooks = soak, False, receiver is not None
        if not receiver:
            self.chores = {k: v for k, v in chores.items() if k not in ("hooked", "ping")}

    def connect(self):
        Worker.connect(self)

    def furnish(self):
        Client.furnish(self)

    def ask(self, method, path, changes=False, **more):
        answer = self.soak.counted(Client.ask(self, method, path, changes, **{"timeout": 60, **more}), method, path)
        return answer

    def recover(self):
        """Repeats what has a key, and learns how far uploads got."""
        self.connect()
        for job in self.jobs:
            if not job.id:
                self.send(job)
        for path, (data, at) in list(self.open.items()):
            self.wrong += self.upload_wrong(path, data, at)
        for name, (pattern, there) in list(self.recipes.items()):
            if there is None:
                self.wrong += self.recipe_wrong(name, pattern, there)

    def hooked(self):
        """The receiver of one job: not well at first, slow, or well."""
        answers = self.rng.choice(["503,200", "wait,200", "500,503,200", "200"])
        self.submit(webhook={"url": f"{self.receiver.url}/own-{self.name}-{next(self.number)}/{answers}", "events": ENDS})

    def unmodel(self):
        """Deletes a model that no more jobs are made of; a job may still use it, or be on its way."""
        old = [m for m in list(self.models)[2:-4] if m not in self.deleted and not any(j.body["model_id"] == m and not j.id for j in self.jobs)]
        if old:
            model = self.rng.choice(old)
            answer = self.ask("DELETE", f"/v1/models/{model}", True)
            if self.expect(answer, 204, 404, 409) and answer.status_code != 409:    # 404: the first answer was lost
                self.deleted.add(model)

    def fold(self):
        """Forgets the jobs that are through, once all that is known of them was checked; gives them to the books of the soak."""
        done = [(j.id, "deleted" if j.removed else j.state, j.key, j.body["type"]) for j in self.jobs]
        self.jobs, self.pings = [], []
        return done

    deleted = property(lambda self: self.__dict__.setdefault("_deleted", set()))


class Storm(Keeper):
    """Twenty jobs at once, and all are canceled at random moments: while they wait, while they start, while they ignore it."""

    pace = 0.15
    SLOW = ["stage quantizing; sleep 3000; result model.onnx late", "stage calibrating; stubborn", "hang",
            "layer 5; sleep 300; result model.onnx soon"]

    def __init__(self, soak, name):
        super().__init__(soak, name, {"storm": 1})

    def furnish(self):
        super().furnish()
        for script in self.SLOW:
            answer = self.ask("PUT", "/v1/models?name=slow", data=f"#quantize {script}; result report.json {{}}\n".encode())
            self.models[answer.json()["id"]] = script.rpartition(" ")[2]
        self.slow = list(self.models)[2:]

    def storm(self):
        """Submits and cancels in a random order, each cancel behind its submit."""
        first, left = len(self.jobs), [*range(20)] * 2
        self.rng.shuffle(left)
        made = {}
        for n in left:
            if n in made:
                self.cancel_job(made[n])
            else:
                self.submit(model_id=self.rng.choice(self.slow), priority=self.rng.randrange(10))
                made[n] = self.jobs[-1]
            if self.rng.random() < 0.3:
                self.soak.idle(self.rng.uniform(0, 0.2))
        self.soak.tell("storms", 1)
        self.soak.tell("cancels", len(self.jobs) - first)

    def cancel_job(self, job):
        if job.id:                                          # else the child that looks into the model was killed
            super().cancel_job(job)

    def recover(self):
        """What hangs is canceled, whatever happened to the first request."""
        super().recover()
        for job in self.jobs:
            if not job.canceled:
                self.cancel_job(job)

    def check(self, whole=True):
        """A job that was refused, since the child that looked into its model was killed, is made now, and is to end like the others."""
        self.recover()
        return super().check(whole)


class Quantizer(Keeper):
    """The example, quantized for real; an interrupted job gives the bytes that an undisturbed one gives."""

    pace = 0.12
    files = ("details.json", "manifest.json", "model.onnx", "report.json")
    RECIPES = ["minmax-w8a8", "percentile-w8a8", "smoothquant-w8a8", "zeroquant-w4a8", "repquant-w8a8", "repquant-w4a4"]

    def __init__(self, soak, name):
        super().__init__(soak, name, {"real": 10, "again": 1, "look": 2, "remove": 1, "cancel": 1})
        self.made = {}                                      # recipe -> digest of the artifact

    def furnish(self):
        self.connect()
        put = {what: self.ask("PUT", f"/v1/{what}?name=digits", data=(DIGITS / name).read_bytes()).json()["id"]
               for what, name in (("models", "model.onnx"), ("datasets", "calib.npz"))}
        self.eval = self.ask("PUT", "/v1/datasets?name=eval", data=(DIGITS / "eval.npz").read_bytes()).json()["id"]
        self.models[put["models"]], self.data = "the example", put["datasets"]

    def real(self):
        more = {"eval_dataset_id": self.eval} if self.rng.random() < 0.3 else {}
        self.submit(recipe=self.rng.choice(self.RECIPES), **more)

    def is_right(self, job, got):
        return self.made.setdefault(job.body["recipe"], digest_of(got)) == digest_of(got)


# ---- who reads ----

class Reader(Worker):
    """Streams that come and go, long polls, parts of files, reports and lists; what was deleted in the meantime is 404."""

    pace = 4.0
    chores = {"stream": 6, "poll": 4, "part": 6, "report": 3, "page": 5, "log": 2}
    PAGES = ["/", "/metrics", "/v1/queue", "/v1/queue/history", "/v1/capabilities", "/v1/openapi.json", "/v1/models?limit=20",
             "/v1/datasets", "/v1/jobs?state=failed", "/v1/recipes", "/v1/whoami", "/healthz", "/readyz", "/v1/teams/local", "/v1/webhooks",
             "/v1/audit?limit=50"]

    def see(self, path, *statuses, **more):
        answer = self.ask("GET", path, **more)
        if answer.status_code not in statuses:
            self.wrong.append(f"GET {path}: {answer.status_code} {answer.text[:200]}")
        return answer

    def job(self, query="limit=20"):
        rows = self.see(f"/v1/jobs?{query}", 200).json()["data"]
        return self.rng.choice(rows)["id"] if rows else None

    def stream(self):
        """Reads a while, and hangs up or breaks off; every other time in the middle of a request."""
        job = self.job()
        if not job:
            return
        head = (f"GET /v1/jobs/{job}/{self.rng.choice(['events', 'logs?follow=true'])} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
                f"Authorization: Bearer {self.daemon.token}\r\n\r\n").encode()
        try:
            with socket.create_connection(("127.0.0.1", self.daemon.port), timeout=self.rng.uniform(0.05, 2)) as s:
                s.sendall(head[:self.rng.randrange(20, len(head))] if self.rng.random() < 0.2 else head)
                with contextlib.suppress(TimeoutError):
                    while s.recv(4096) and self.rng.random() < 0.8:
                        pass
                if self.rng.random() < 0.5:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError as e:
            raise requests.ConnectionError(e) from e
        self.soak.tell("streams left", 1)

    def poll(self):
        """Some do not wait for the answer."""
        job = self.job()
        if job:
            try:
                after = self.rng.choice([0, 3, 1000])
                self.see(f"/v1/jobs/{job}/events?wait=2&after={after}", 200, 404, timeout=(5, self.rng.choice([0.3, 30])))
            except requests.exceptions.ReadTimeout:
                self.connect()

    def part(self):
        job = self.job("state=succeeded&limit=20")
        rows = self.see(f"/v1/jobs/{job}/artifacts", 200, 404).json().get("data") if job else None
        if not rows:
            return
        row = self.rng.choice(rows)
        path = f"/v1/artifacts/{row['id']}/content"
        whole = self.see(path, 200, 404)
        if whole.status_code == 404:
            return
        if digest_of(whole.content) != row["digest"]:
            self.wrong.append(f"{path} is not {row['digest']}")
        first = self.rng.randrange(max(1, len(whole.content)))
        last = first + self.rng.randrange(100_000)
        some = self.see(path, 206, 404, headers={"Range": f"bytes={first}-{last}"})
        if some.status_code == 206 and some.content != whole.content[first:last + 1]:
            self.wrong.append(f"{path} has other bytes from {first} to {last}")
        self.see(path, 304, 404, headers={"If-None-Match": whole.headers["ETag"]})
        self.leave_amidst(path)

    def leave_amidst(self, path):
        """Asks for it once more and goes before it is all there."""
        answer = self.see(path, 200, 404, stream=True)
        next(answer.iter_content(1000), None)
        answer.close()

    def report(self):
        job = self.job("state=succeeded&label=kind:real&limit=20") or self.job("state=succeeded&limit=20")
        for what in ("report?format=json", "report?format=csv", "report?format=html", "layers", "layers/0/details", "artifacts") if job else ():
            self.see(f"/v1/jobs/{job}/{what}", 200, 404, 410)

    def log(self):
        job = self.job()
        if job:
            self.see(f"/v1/jobs/{job}/logs", 200, 404)

    def page(self):
        self.see(self.rng.choice(self.PAGES), 200)


# ---- who sends rubbish ----

class Vandal(Worker):
    """What is cut, lies, is of another kind, too large or no request at all: refused, or taken as what it is."""

    pace = 1.5
    chores = {"cut": 5, "wrong_digest": 4, "hostile": 10, "arrays": 4, "wrong_type": 4, "oversize": 4, "tus": 4, "chunks": 3, "job": 4}

    def __init__(self, soak, name):
        super().__init__(soak, name)
        self.rubbish = self.seen = 0

    def furnish(self):
        super().furnish()
        self.model = self.ask("PUT", "/v1/models?name=digits", data=(DIGITS / "model.onnx").read_bytes()).json()["id"]

    def refused(self, answer, *more):
        """A problem of the client's; `more` are other statuses that are fine."""
        if answer.status_code in more or 400 <= answer.status_code < 500:
            return answer
        if answer.status_code == 500 and answer.json().get("code") == "worker.lost":
            return answer                                   # the child that looked into it was killed
        self.wrong.append(f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text[:300]}")
        return answer

    def put(self, what, data):
        """What is taken is deleted."""
        answer = self.refused(self.ask("PUT", f"/v1/{what}?name=rubbish", data=data), 201)
        if answer.status_code == 201:
            self.ask("DELETE", f"/v1/{what}/{answer.json()['id']}")
        return answer

    def raw(self, data):
        """Sends bytes and hangs up; what comes back until then."""
        try:
            with socket.create_connection(("127.0.0.1", self.daemon.port), timeout=self.rng.uniform(0.05, 1)) as s:
                s.sendall(data)
                with contextlib.suppress(TimeoutError):
                    return s.recv(65536)
        except OSError as e:
            raise requests.ConnectionError(e) from e
        return b""

    def head(self, line, *fields):
        return "\r\n".join([f"{line} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {self.daemon.token}", *fields, "", ""]).encode()

    def cut(self):
        """An upload that ends in the middle."""
        data = self.rng.randbytes(self.rng.randrange(1, 60_000))
        path = self.rng.choice(["/v1/models?name=cut", "/v1/datasets?name=cut", f"/v1/blobs/{digest_of(data)}"])
        got = self.raw(self.head(f"PUT {path}", f"Content-Length: {len(data) + self.rng.randrange(1, 100_000)}") + data)
        if got[9:12] not in (b"", b"400", b"408", b"503"):
            self.wrong.append(f"a cut PUT {path}: {got[:200]}")
        self.soak.tell("uploads cut", 1)

    def wrong_digest(self):
        data = self.rng.randbytes(self.rng.randrange(1, 60_000))
        answer = self.ask("PUT", f"/v1/blobs/{digest_of(data + b'x')}", data=data)
        if answer.status_code != 422:
            self.refused(answer)
            self.wrong.append(f"a wrong digest: {answer.status_code} {answer.text[:200]}")

    def hostile(self):
        """Damaged models, models that lie, other kinds."""
        if not self.rubbish:
            self.rubbish = len(self.files())
        self.put("models", self.files()[self.seen % self.rubbish])
        self.seen += 1

    def files(self):
        if "hostile" not in self.soak.shared:
            files = [data for _, data in damaged(400, 7)] + [row[0] for row in (*lies().values(), *other_kinds().values())]
            random.Random(7).shuffle(files)
            self.soak.shared["hostile"] = files
        return self.soak.shared["hostile"]

    def arrays(self):
        """Data that do not fit the model: refused, or found not to fit."""
        if "arrays" not in self.soak.shared:
            self.soak.shared["arrays"] = [row[0] for name, row in bad_arrays().items() if name != "a bomb"]     # half a minute of a processor
        answer = self.refused(self.ask("PUT", "/v1/datasets?name=rubbish", data=self.rng.choice(self.soak.shared["arrays"])), 201)
        if answer.status_code == 201:
            path = f"/v1/datasets/{answer.json()['id']}"
            self.refused(self.ask("POST", path + "/validations", json={"model_id": self.model}), 200, 201)
            self.ask("DELETE", path)

    def wrong_type(self):
        body = self.rng.choice([b"[" * 30_000, b'{"type":"quantize","type":"quantize"}', b"\xff\xfe", b"", b"null",
                                b'{"priority":1e400}', b'{"model_id":"mdl_1"}'])
        type_ = self.rng.choice(["application/json", "text/plain", "multipart/form-data; boundary=x", "application/xml"])
        path = self.rng.choice(["/v1/jobs", "/v1/models", "/v1/webhooks", "/v1/tokens"])
        self.refused(self.ask("POST", path, data=body, headers={"Content-Type": type_}))

    def oversize(self):
        """Refused before a byte is sent."""
        if self.rng.random() < 0.5:
            answer = self.ask("POST", "/v1/uploads", headers={**TUS, "Upload-Length": str(1 << self.rng.randrange(30, 60))})
            if answer.status_code != 413:
                self.wrong.append(f"an upload of too many bytes: {answer.status_code} {answer.text[:200]}")
            return
        got = self.raw(self.head("PUT /v1/models?name=large", f"Content-Length: {1 << self.rng.randrange(30, 60)}"))
        if got[9:12] not in (b"", b"413", b"503"):
            self.wrong.append(f"too large an upload: {got[:200]}")

    def tus(self):
        """Begun, continued at a wrong place, with a wrong checksum, and often abandoned."""
        data = self.rng.randbytes(5000)
        made = self.ask("POST", "/v1/uploads", headers={**TUS, "Upload-Length": "5000"})
        if made.status_code != 201:
            self.wrong.append(f"an upload: {made.status_code} {made.text[:200]}")
            return
        path = made.headers["Location"]
        self.refused(self.ask("PATCH", path, headers={**PART, "Upload-Offset": "17"}, data=data))
        self.refused(self.ask("PATCH", path, headers={**PART, "Upload-Offset": "0", "Upload-Checksum": "sha256 AAAA"}, data=data))
        self.refused(self.ask("PATCH", path, headers={**TUS, "Upload-Offset": "0"}, data=data))
        if self.rng.random() < 0.7:
            self.refused(self.ask("DELETE", path, headers=TUS), 204)
        else:
            self.soak.tell("uploads abandoned", 1)

    def chunks(self):
        """Chunks that lie about themselves."""
        body = self.rng.choice([b"ffffffffffffffff\r\nx", b"10000000000000000\r\nx", b"0x1\r\nx\r\n0\r\n\r\n", b"5\r\nabc", b"+1\r\nx\r\n0\r\n\r\n"])
        got = self.raw(self.head("PUT /v1/models?name=chunks", "Transfer-Encoding: chunked") + body)
        if got[9:12] not in (b"", b"400", b"408", b"413", b"500", b"503"):
            self.wrong.append(f"{body}: {got[:200]}")

    def job(self):
        """Of what is not there, or with what cannot be."""
        body = {"type": "quantize", "model_id": self.model, "dataset_id": "ds_" + "0" * 26, "recipe": "minmax-w8a8"}
        body.update(self.rng.choice([{}, {"recipe": "none"}, {"recipe": {"weights": {"bits": 77}}}, {"model_id": "mdl_" + "0" * 26},
                                     {"priority": 99}, {"more": 1}]))
        self.refused(self.ask("POST", "/v1/jobs", json=body))


# ---- who administers ----

class Administrator(Worker):
    """Tokens, teams and webhooks that come and go, the audit log, backups beside the service."""

    pace = 0.7
    chores = {"token": 20, "team": 16, "webhook": 16, "audit": 6, "login": 8, "backup": 1}

    def expect(self, answer, *statuses):
        if answer.status_code not in statuses:
            self.wrong.append(f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text[:300]}")
        return answer

    def token(self):
        made = self.expect(self.ask("POST", "/v1/tokens", json={"name": "soak", "role": self.rng.choice(["viewer", "member", "admin"])}), 201).json()
        own = {"Authorization": f"Bearer {made['token']}"}
        self.expect(self.ask("GET", "/v1/whoami", headers=own), 200)
        self.expect(self.ask("DELETE", f"/v1/tokens/{made['id']}"), 204)
        self.expect(self.ask("GET", "/v1/whoami", headers=own), 401)

    def team(self):
        """With a token, and some with a model of their own; it sees nothing of the others'."""
        name = f"soak-{self.rng.randrange(1 << 40):x}"
        self.expect(self.ask("POST", "/v1/teams", json={"name": name, "quota": {"max_queued": 2}}), 201)
        made = self.expect(self.ask("POST", "/v1/tokens", json={"name": "soak", "team": name, "role": "member"}), 201).json()
        own = {"Authorization": f"Bearer {made['token']}"}
        if self.expect(self.ask("GET", "/v1/jobs", headers=own), 200).json()["data"]:
            self.wrong.append(f"a new team sees jobs: {name}")
        owns = self.rng.random() < 0.3
        if owns:
            model = self.ask("PUT", "/v1/models?name=own", data=f"#quantize result model.onnx {name}\n".encode(), headers=own)
            if self.expect(model, 201, 500).status_code == 201:
                self.expect(self.ask("DELETE", f"/v1/models/{model.json()['id']}", headers=own), 204)
        self.expect(self.ask("DELETE", f"/v1/tokens/{made['id']}?team={name}"), 204)
        self.expect(self.ask("DELETE", f"/v1/teams/{name}"), 409 if owns else 204)     # its bytes are kept for a day

    def webhook(self):
        hook = {"url": f"{self.soak.receiver.url}/passing/200", "events": ["job.succeeded"]}
        path = "/v1/webhooks/" + self.expect(self.ask("POST", "/v1/webhooks", json=hook), 201).json()["id"]
        self.expect(self.ask("POST", path + "/ping"), 202)
        self.expect(self.ask("POST", path + "/rotate_secret"), 200, 201)
        self.expect(self.ask("PATCH", path, json={"enabled": False}), 200)
        self.expect(self.ask("GET", path + "/deliveries"), 200)
        self.expect(self.ask("DELETE", path), 204)

    def audit(self):
        """Pages from some row on, oldest first or newest first."""
        page = f"/v1/audit?limit={self.rng.choice([10, 200, 1000])}&order={self.rng.choice(['asc', 'desc'])}"
        for _ in range(self.rng.randrange(1, 4)):
            page = self.expect(self.ask("GET", page), 200).links.get("next", {}).get("url")
            if not page:
                return

    def login(self):
        """A browser's session, with its cookie and token against forgery."""
        answer = self.expect(self.ask("POST", "/v1/session"), 201)
        own = {"Cookie": answer.headers["Set-Cookie"].split(";")[0], "Authorization": None}
        self.expect(self.ask("GET", "/v1/queue", headers=own), 200)
        self.expect(self.ask("DELETE", "/v1/session", headers=own), 403)
        own |= {"Sec-Fetch-Site": "same-origin", "X-Repquant-Csrf": answer.json()["csrf_token"]}
        self.expect(self.ask("DELETE", "/v1/session", headers=own), 204)

    def backup(self):
        """Beside the daemon, whatever that does in the meantime; each leaves the folder whole."""
        target = self.soak.folder / "backup"
        for command in (["backup", target, f"--data={self.daemon.data}"], ["verify", target]):
            ended = subprocess.run([REPQUANTD, *map(str, command)], capture_output=True, text=True, timeout=300)
            if ended.returncode:
                self.wrong.append(f"{command[0]}: {ended.returncode} {ended.stdout[-500:]}{ended.stderr[-500:]}")
        self.soak.tell("backups", 1)


STEADY = {**ALL, "unmodel": 4}


def clients(soak):
    """All of them; the first two are called back."""
    keepers = [Keeper(soak, f"c{n}", STEADY, soak.receiver if n < 2 else None) for n in range(3)]
    return [*keepers, Storm(soak, "storm"), Quantizer(soak, "real"), Reader(soak, "reader"), Reader(soak, "reader2"), Vandal(soak, "vandal"),
            Administrator(soak, "admin")]
