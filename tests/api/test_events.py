"""Events of a job as they happen: streams (server-sent events) and long polls.

The client of the streams is requests-sse, which knows nothing of us: it reconnects by itself with the id of the last event it has.
"""
import asyncio
import datetime
import itertools
import json
import socket
import statistics
import threading
import time

import pytest
import requests
import requests_sse
from conftest import SANITIZER, until

SLOWLY = "stage preparing; " + "; ".join(f"sleep 50; warning slow.{i}; progress {i} 20" for i in range(20)) + "; result model.onnx MODEL"
STREAM = {"Accept": "text/event-stream"}


def listed(daemon, job):
    answer = daemon("GET", f"/v1/jobs/{job['id']}/events", params={"limit": 1000})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def source(daemon, job, url=None, last=None, seconds=0.01):
    return requests_sse.EventSource((url or daemon.url) + f"/v1/jobs/{job['id']}/events", headers={"Authorization": f"Bearer {daemon.token}"}, timeout=10,
                                    latest_event_id=last, reconnection_time=datetime.timedelta(seconds=seconds), max_connect_retry=12)


def followed(events):
    """All that a client gets until it is told (204) that there is no more."""
    got = []
    with events:
        with pytest.raises(requests_sse.InvalidStatusCodeError) as end:
            for event in events:
                got.append(event)
    assert end.value.status_code == 204
    return got


def raw_stream(daemon, job, **headers):
    """A socket from which to read what comes, headers and all."""
    s = socket.create_connection(("127.0.0.1", daemon.port), timeout=20)
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    s.sendall(f"GET /v1/jobs/{job['id']}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
              f"Authorization: Bearer {daemon.token}\r\n{more}\r\n".encode())
    return s


def read_until(s, text):
    got = b""
    while text not in got:
        part = s.recv(65536)
        assert part, f"closed before {text} came: {got[-500:]}"
        got += part
    return got


@pytest.fixture(scope="module")
def finished(daemon):
    return daemon.ended(daemon.job("stage preparing; layer 3; metric top1 0.75 0.5; result model.onnx MODEL")["id"])


def test_a_stream_tells_what_the_list_tells_and_ends(daemon, finished):
    events = listed(daemon, finished)
    answer = daemon("GET", finished["urls"]["events"], headers=STREAM)
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "text/event-stream" and answer.headers["Cache-Control"] == "no-store"
    assert answer.text == "".join(f"id: {e['seq']}\nevent: {e['type']}\ndata: {json.dumps(e, separators=(',', ':'))}\n\n" for e in events)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_stream_goes_on_behind_the_last_event_its_reader_has(daemon, finished, at):
    events = listed(daemon, finished)
    got = followed(source(daemon, finished, last=str(at)))
    assert [json.loads(e.data) for e in got] == events[at:]
    assert [(e.last_event_id, e.type) for e in got] == [(str(e["seq"]), e["type"]) for e in events[at:]]


def test_the_field_outranks_the_address_which_stays_the_same_when_a_reader_comes_back(daemon, finished):
    url = finished["urls"]["events"] + "?after=1"
    assert daemon("GET", url, headers=STREAM).text.startswith("id: 2\n")
    assert daemon("GET", url, headers={**STREAM, "Last-Event-ID": "3"}).text.startswith("id: 4\n")
    assert daemon("GET", url, headers={**STREAM, "Last-Event-ID": "100000"}).status_code == 204


@pytest.mark.parametrize("headers, path, where", [
    ({"Last-Event-ID": "-1"}, "", "Last-Event-ID"), ({"Last-Event-ID": "x"}, "", "Last-Event-ID"), ({"Last-Event-ID": "9" * 30}, "", "Last-Event-ID"),
    ({}, "?limit=3", "query"), ({}, "?wait=3", "query"), ({}, "?after=-1", "after"),
])
def test_what_cannot_be_followed_is_refused(daemon, finished, headers, path, where):
    answer = daemon("GET", finished["urls"]["events"] + path, headers={**STREAM, **headers})
    assert answer.status_code == 400 and where in answer.text, answer.text


def test_only_who_names_the_type_gets_a_stream(daemon, finished):
    for accept, stream in (("text/event-stream", True), ("application/json, TEXT/event-stream;q=0.5", True), ("*/*", False),
                           ("text/event-streams", False), ("application/json", False)):
        answer = daemon("GET", finished["urls"]["events"], headers={"Accept": accept})
        assert answer.headers["Content-Type"] == ("text/event-stream" if stream else "application/json"), accept
    assert daemon("GET", "/v1/jobs/job_" + "0" * 26 + "/events", headers=STREAM).status_code == 404
    for _ in range(5):      # on one connection: nothing of a body may follow
        head = daemon("HEAD", finished["urls"]["events"], headers=STREAM)
        assert head.status_code == 200 and head.headers["Content-Type"] == "text/event-stream"


class Relay:
    """Passes bytes on, and cuts every connection after some of them: in the head, between events, amidst one."""

    def __init__(self, port, step):
        self.port, self.cuts = port, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.step = step
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.cuts += 1
            allowed = 500 + self.step * self.cuts % 1999
            with client, socket.create_connection(("127.0.0.1", self.port)) as server:
                server.sendall(client.recv(65536).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))    # one request each
                while allowed > 0 and (part := server.recv(allowed)):
                    client.sendall(part)
                    allowed -= len(part)


@pytest.mark.parametrize("step", [277, 613])
def test_a_client_that_is_cut_off_again_and_again_gets_every_event_once(daemon, step):
    job = daemon.job(SLOWLY)
    relay = Relay(daemon.port, step)
    events = source(daemon, job, relay.url, seconds=1e-9)
    got = followed(events)
    relay.listener.close()
    assert [json.loads(e.data) for e in got] == listed(daemon, job)
    assert got[-1].type == "job.succeeded" and relay.cuts > 5, relay.cuts


def test_a_client_follows_a_job_across_a_restart(make_daemon):
    d = make_daemon(drain=2)
    job = d.job("stage quantizing; layer 2; sleep 60000")
    d.options["port"] = str(d.port)
    got = []

    def follow():
        with source(d, job, seconds=0.05) as events:
            for event in events:
                got.append(event)
                if len([e for e in got if e.type == "job.started"]) == 2:
                    return

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    until(lambda: any(e.type == "job.layer_completed" for e in got), what="a layer")
    assert d.stop() == 0
    d.start()
    reader.join(20)
    assert not reader.is_alive()
    told = [e for e in got if e.type != "shutdown"]
    assert [e.type for e in told].count("job.started") == 2, "the client has come back"
    assert [e.type for e in got].count("shutdown") == 1 and [int(e.last_event_id) for e in told] == list(range(1, len(told) + 1))
    assert d("POST", job["urls"]["cancel"]).status_code == 202


def test_250_readers_of_one_job_get_all_events_at_little_cost(make_daemon):
    lot = 50
    d = make_daemon(event_readers=600)
    idle = d.job("hang", priority=9)
    until(lambda: d("GET", idle["urls"]["self"]).json()["state"] == "running", what="running")
    job = d.job(SLOWLY)

    async def read(started):
        reader, writer = await asyncio.open_connection("127.0.0.1", d.port)
        writer.write(f"GET /v1/jobs/{job['id']}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
                     f"Authorization: Bearer {d.token}\r\nConnection: close\r\n\r\n".encode())
        text = await reader.readuntil(b"event: job.queued")
        started.release()
        text += await asyncio.wait_for(reader.read(-1), 60)
        writer.close()
        return text

    async def begin(n):
        started = asyncio.Semaphore(0)
        tasks = [asyncio.create_task(read(started)) for _ in range(n)]
        for _ in range(n):
            await started.acquire()
        return tasks, d.memory()

    async def all_of_them():
        lots = [await begin(lot) for _ in range(5)]
        await asyncio.to_thread(d, "POST", idle["urls"]["cancel"])
        sizes = [size for _, size in lots]
        return [(b - a) / lot for a, b in itertools.pairwise(sizes)], await asyncio.gather(*(task for tasks, _ in lots for task in tasks))

    grown, texts = asyncio.run(all_of_them())
    events = listed(d, job)
    assert events[-1]["type"] == "job.succeeded"
    for text in texts:
        ids = [int(line[4:]) for line in text.split(b"\n") if line.startswith(b"id: ")]
        assert ids == [e["seq"] for e in events]
    # A thread that first works in one of the lots takes its own memory there, so it is the lots' median.
    assert SANITIZER or statistics.median(grown) <= 16 * 1024, f"bytes a reader, lot by lot: {grown}"


def test_there_are_only_so_many_readers(make_daemon):
    d = make_daemon(event_readers=4, event_heartbeat=1)
    other = d("POST", "/v1/tokens", json={"name": "other", "role": "viewer"}).json()["token"]
    third = d("POST", "/v1/tokens", json={"name": "third", "role": "viewer"}).json()["token"]
    job = d.job("hang")

    def follow(token):
        return requests.get(d.url + job["urls"]["events"], headers={**STREAM, "Authorization": f"Bearer {token}"}, stream=True, timeout=20)

    own = [follow(d.token) for _ in range(3)]
    assert [a.status_code for a in own] == [200, 200, 503]
    assert own[2].json()["code"] == "service.busy" and int(own[2].headers["Retry-After"]) > 0
    others = [follow(other), follow(other)]
    assert [a.status_code for a in others] == [200, 200]
    assert follow(third).status_code == 503
    answer = requests.get(d.url + job["urls"]["events"], params={"wait": 5, "after": 1000}, headers={"Authorization": f"Bearer {third}"}, timeout=20)
    assert answer.status_code == 503, "a request that waits counts, too"
    for a in own + others:
        a.close()
    until(lambda: follow(third).status_code == 200, what="a reader's place, once others have gone")


def test_a_stream_that_has_nothing_to_tell_says_so_and_a_reader_that_has_gone_is_forgotten(make_daemon):
    d = make_daemon(event_heartbeat=1, event_readers=2)
    job = d.job("hang")
    with raw_stream(d, job) as s:
        read_until(s, b":\n\n")

    def place():
        with raw_stream(d, job) as s:
            return read_until(s, b"\r\n").startswith(b"HTTP/1.1 200")

    until(place, what="the place of the reader that has gone, which was the only one")


def test_shutting_down_ends_streams_and_waiting_requests(make_daemon):
    d = make_daemon(drain=20, event_readers=3)
    job = d.job("hang")
    until(lambda: len(listed(d, job)) >= 2, what="its start")
    polled = []

    def poll():
        polled.append(requests.get(d.url + job["urls"]["events"] + "?after=100&wait=50", timeout=60, headers={"Authorization": f"Bearer {d.token}"}))

    def full():             # HEAD asks for a place and gives it back
        return d("HEAD", job["urls"]["events"], headers=STREAM).status_code == 503

    poller = threading.Thread(target=poll)
    with raw_stream(d, job) as s:
        read_until(s, b"job.started")
        poller.start()
        until(full, what="the request that waits, which takes the last place")
        began = time.monotonic()
        assert d.stop() == 0
        rest = b""
        while part := s.recv(65536):
            rest += part
        assert rest.endswith(b"event: shutdown\ndata: {}\n\n\r\n0\r\n\r\n"), rest
    poller.join(10)
    assert time.monotonic() - began < 15 and polled[0].status_code == 200 and polled[0].json()["data"] == []


# ---- long polls ----

def test_a_request_waits_for_the_next_event(daemon):
    job = daemon.job("stage preparing; sleep 700; warning late.one; sleep 60000")
    until(lambda: len(listed(daemon, job)) >= 3, what="the stage")
    began = time.monotonic()
    answer = daemon("GET", job["urls"]["events"], params={"after": 3, "wait": 20})
    assert [e["type"] for e in answer.json()["data"]] == ["job.warning"] and time.monotonic() - began < 5
    assert daemon("POST", job["urls"]["cancel"]).status_code == 202


def test_a_request_waits_no_longer_than_it_said(daemon):
    job = daemon.job("hang")
    until(lambda: len(listed(daemon, job)) >= 2, what="its start")
    began = time.monotonic()
    answer = daemon("GET", job["urls"]["events"], params={"after": 100, "wait": 1})
    assert answer.status_code == 200 and answer.json() == {"data": [], "next_cursor": None} and 0.9 < time.monotonic() - began < 5
    assert daemon("POST", job["urls"]["cancel"]).status_code == 202
    daemon.ended(job["id"])
    began = time.monotonic()
    assert daemon("GET", job["urls"]["events"], params={"after": 100, "wait": 50}).json()["data"] == [], "an ended job is not waited for"
    assert time.monotonic() - began < 5
    assert daemon("GET", job["urls"]["events"], params={"wait": 61}).status_code == 400


# ---- whose right ends while they read ----

class Reader(threading.Thread):
    """Reads what follows a job until it ends, on a thread of its own: what came, with which status, and when it was over."""

    WAYS = {"stream": ("events", STREAM, None), "log": ("logs", {}, {"follow": "true"}), "poll": ("events", {}, {"after": 1000, "wait": 60})}

    def __init__(self, daemon, job, way, **right):
        super().__init__(daemon=True)
        self.path, self.headers, self.params = self.WAYS[way]
        self.url, self.right, self.text, self.status, self.over = daemon.url + job["urls"][self.path], right, b"", None, None
        self.start()

    def run(self):
        with requests.get(self.url, headers={**self.headers, **self.right}, params=self.params, stream=True, timeout=60) as answer:
            for part in answer.iter_content(None):
                self.text += part
            self.status, self.over = answer.status_code, time.monotonic()


def readers_of(daemon, job, **right):
    return [Reader(daemon, job, way, **right) for way in Reader.WAYS]


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def reading(daemon, n):
    until(lambda: f"repquant_event_readers {n}\n" in daemon("GET", "/metrics").text, what=f"{n} readers")


def ended_soon(readers, since):
    for r in readers:
        r.join(10)
        assert not r.is_alive(), f"{r.path} goes on"
    assert [r.status for r in readers] == [200, 200, 401] and max(r.over for r in readers) - since < 3
    assert json.loads(readers[2].text)["code"] == "auth.required"
    assert b"\nevent: job.started" in readers[0].text and b"\"job.started\"" in readers[1].text, "what came until then"


def test_who_reads_with_a_token_that_is_deleted_reads_no_more(make_daemon):
    d = make_daemon(event_heartbeat=300)
    job = d.job("hang")
    until(lambda: len(listed(d, job)) >= 2, what="its start")
    token, other = (d("POST", "/v1/tokens", json={"name": "gone", "role": "viewer"}).json() for _ in range(2))
    readers, others = readers_of(d, job, **bearer(token["token"])), readers_of(d, job, **bearer(other["token"]))
    reading(d, 6)
    began = time.monotonic()
    assert d("DELETE", f"/v1/tokens/{token['id']}").status_code == 204
    ended_soon(readers, began)
    reading(d, 3)
    d("POST", job["urls"]["cancel"])
    d.ended(job["id"])
    for r in others[:2]:
        r.join(10)
        assert r.status == 200 and b"job.canceled" in r.text, "another token's readers go on to the job's end"


def test_who_reads_in_a_session_that_is_ended_reads_no_more(make_daemon):
    d = make_daemon(event_heartbeat=300)
    job = d.job("hang")
    until(lambda: len(listed(d, job)) >= 2, what="its start")
    logins = [d("POST", "/v1/session") for _ in range(3)]
    cookies = [{"Cookie": a.headers["Set-Cookie"].split(";")[0]} for a in logins]
    readers = [readers_of(d, job, **cookie) for cookie in cookies]
    reading(d, 9)
    began = time.monotonic()
    page = {"Sec-Fetch-Site": "same-origin", "X-Repquant-Csrf": logins[0].json()["csrf_token"]}
    assert requests.delete(d.url + "/v1/session", headers={**cookies[0], **page}, timeout=20).status_code == 204
    ended_soon(readers[0], began)
    began = time.monotonic()
    assert d("DELETE", f"/v1/sessions/{logins[1].json()['id']}").status_code == 204
    ended_soon(readers[1], began)
    reading(d, 3)
    assert all(r.is_alive() for r in readers[2]), "another session of the same token goes on"


def test_who_reads_with_a_token_that_expires_reads_no_more(make_daemon):
    d = make_daemon(event_heartbeat=300)
    job = d.job("hang")
    until(lambda: len(listed(d, job)) >= 2, what="its start")
    ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=3)
    token = d("POST", "/v1/tokens", json={"name": "brief", "role": "viewer", "expires_at": ends.isoformat(timespec="milliseconds")})
    assert token.status_code == 201, token.text
    login = requests.post(d.url + "/v1/session", headers=bearer(token.json()["token"]), timeout=20)
    began = time.monotonic() + (ends - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
    readers = readers_of(d, job, **bearer(token.json()["token"])), readers_of(d, job, Cookie=login.headers["Set-Cookie"].split(";")[0])
    reading(d, 6)
    for three in readers:
        ended_soon(three, began)
        assert min(r.over for r in three) >= began - 0.1, "not before its time"


def test_events_that_come_without_a_pause_are_not_told_to_a_token_that_is_deleted(make_daemon):
    d = make_daemon(event_heartbeat=300)
    job = d.job("stage preparing; " + "; ".join(f"sleep 20; warning quick.{i}" for i in range(1000)))
    token = d("POST", "/v1/tokens", json={"name": "gone", "role": "viewer"}).json()
    reader = Reader(d, job, "stream", **bearer(token["token"]))
    until(lambda: reader.text.count(b"job.warning") >= 5, what="events")
    assert d("DELETE", f"/v1/tokens/{token['id']}").status_code == 204
    last = listed(d, job)[-1]["seq"]
    until(lambda: listed(d, job)[-1]["seq"] > last + 20, what="more events, which it must not hear")
    reader.join(10)
    assert not reader.is_alive() and int(reader.text.rsplit(b"\nid: ", 1)[1].split(b"\n")[0]) <= last + 5
