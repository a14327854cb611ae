"""Attacks by requests, by their number and by time that no other suite has (tests/attacks.tsv says where the others are)."""
import concurrent.futures
import math
import random
import socket
import statistics
import struct
import threading
import time

import pytest
import requests
from conftest import REPQUANTD, Daemon, preloaded, until
from support import SANITIZED
from test_http_framing import HOST, status
from test_pipeline_jobs import inputs


def put(daemon, body, *fields):
    head = ["PUT /v1/models?name=chunks HTTP/1.1", "Host: localhost", "Connection: close", f"Authorization: Bearer {daemon.token}",
            "Transfer-Encoding: chunked", *fields]
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=30) as s:
        try:
            s.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
            s.shutdown(socket.SHUT_WR)      # there is no more: a chunk without an end is not waited for
            return s.recv(65536)
        except (BrokenPipeError, ConnectionResetError):
            return b""


@pytest.mark.parametrize("body", [b"ffffffffffffffff\r\nx", b"fffffffffffffffff\r\nx", b"10000000000000000\r\nx", b"1;" + b"e" * (1 << 20) + b"\r\nx\r\n0\r\n\r\n",
                                  b"0x1\r\nx\r\n0\r\n\r\n", b"+1\r\nx\r\n0\r\n\r\n"], ids=["2^64-1", "2^68-1", "2^64", "extension", "0x1", "+1"])
def test_a_chunk_that_lies_about_itself_stores_nothing(daemon, body):
    answer = put(daemon, body)
    assert status(answer) in (400, 413, 500, None), answer[:200]        # 500: the library's word for a head that is too large
    until(lambda: not daemon.leftovers(), what="the removal of the unfinished upload")
    assert daemon("GET", "/healthz").status_code == 200


@pytest.mark.parametrize("token", ["rq_" + "0" * 43, "x"])
def test_a_stranger_is_not_asked_for_the_body(daemon, token):
    head = f"PUT /v1/models?name=x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
    answer = daemon.raw(head.encode())
    assert status(answer) == 401 and b"100 Continue" not in answer


JSON = {
    "deep": b"[" * 100_000, "deep objects": b'{"a":' * 100_000, "a string of 10 MB": b'{"type":"' + b"a" * 10_000_000 + b'"}', "1e400": b'{"priority":1e400}',
    "a member twice": b'{"type":"quantize","type":"quantize"}', "lone surrogate": b'{"type":"\\ud800"}', "trailing data": b'{"type":"quantize"} x',
    "two values": b"{}{}", "byte order mark": b"\xef\xbb\xbf{}", "not UTF-8": b'{"type":"\xff"}', "NUL": b'{"type":"a\\u0000b"}', "a list": b"[]", "a word": b"null",
    "nothing": b"", "a number as text": b'{"type":"quantize","recipe":{"weights":{"bits":"4"}}}',
    "a fraction": b'{"type":"quantize","recipe":{"weights":{"bits":4.0000001}}}', "a negative number": b'{"type":"quantize","recipe":{"weights":{"bits":-1}}}',
    "an unknown member": b'{"type":"quantize","bits":4}', "2^64": b'{"priority":18446744073709551616}', "NaN": b'{"priority":NaN}',
}


@pytest.mark.parametrize("what", JSON)
def test_json_that_is_doubtful_is_refused_with_a_place(daemon, what):
    answer = daemon("POST", "/v1/jobs", data=JSON[what], headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 413, 422), answer.text
    problem = answer.json()
    assert problem["code"].split(".")[0] in ("request", "recipe") and problem["detail"]


@pytest.mark.parametrize("field", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_a_field_does_not_change_the_method(daemon, field):
    model = daemon.upload("models", "#quantize \n", name="kept")
    path = f"/v1/models/{model['id']}"
    assert daemon("GET", path, headers={field: "DELETE"}).status_code == 200
    assert daemon("POST", path, headers={field: "DELETE"}).status_code == 405
    assert daemon("GET", f"{path}?_method=DELETE").status_code == 400
    assert daemon("GET", path).status_code == 200


SQL = ["' OR 1=1--", "%", "_", "\\", "\"; DROP TABLE jobs;--", "1) UNION SELECT id FROM tokens--", "0x27", "a' AND sleep(5)--"]


@pytest.mark.parametrize("text", SQL)
def test_what_means_something_to_sql_means_nothing(daemon, text):
    model = daemon.upload("models", "#quantize \n", name="m")
    for path, names in (("/v1/jobs", "state label limit cursor order".split()), ("/v1/models", "limit cursor order".split()),
                        ("/v1/audit", "limit cursor".split())):
        for name in names:
            answer = daemon("GET", path, params={name: text})
            assert answer.status_code in (200, 400), (path, name, answer.text)
            assert answer.status_code == 400 or answer.json()["data"] == [], (path, name, answer.text)
    assert daemon("GET", f"/v1/models/{requests.utils.quote(text, safe='')}").status_code in (400, 404)
    assert daemon("GET", f"/v1/models/{model['id']}").status_code == 200


def t_of(first, second):
    """Welch's t."""
    spread = statistics.variance(first) / len(first) + statistics.variance(second) / len(second)
    return (statistics.mean(first) - statistics.mean(second)) / math.sqrt(spread)


@pytest.mark.parametrize("tries", [600, pytest.param(10_000, marks=pytest.mark.long)])
def test_how_much_of_a_token_is_right_cannot_be_timed(make_daemon, tries):
    d = make_daemon(guesses=0)
    rng = random.Random(1)
    near, far = d.token[:-2] + ("00" if d.token[-2:] != "00" else "11"), "rq_" + "0" * (len(d.token) - 3)
    kinds, times = {"near": near, "far": far}, {"near": [], "far": []}
    session = requests.Session()
    for _ in range(tries):
        kind = rng.choice(["near", "far"])
        began = time.perf_counter()
        assert session.get(d.url + "/v1/whoami", headers={"Authorization": f"Bearer {kinds[kind]}"}).status_code == 401
        times[kind].append(time.perf_counter() - began)
    cut = {k: sorted(v)[:len(v) * 9 // 10] for k, v in times.items()}      # the slowest tenth is the scheduler's
    assert abs(t_of(cut["near"], cut["far"])) < 4.5


def test_a_flood_of_connections_passes(tmp_path_factory, fake_job, tmp_path, monkeypatch):
    """More connections than the daemon has descriptors: afterwards it serves, stores and logs as before."""
    import conftest
    few = tmp_path / "few"
    few.write_text(f'#!/bin/sh\nexec prlimit --nofile=600:600 {REPQUANTD} "$@"\n')
    few.chmod(0o755)
    monkeypatch.setattr(conftest, "REPQUANTD", str(few))
    d = Daemon(tmp_path_factory.mktemp("daemon"), fake_job, {"connections": "0"}).start()
    try:
        flood = []
        for _ in range(700):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", d.port))
            flood.append(s)
        for s in flood:
            s.close()
        until(lambda: d.raw(b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200"), 30, "an answer after the flood")
        d.upload("models", "#quantize \n", name="after")
        assert d.process.poll() is None and "after" in d("GET", "/v1/models").text
    finally:
        assert d.stop() == 0


@pytest.mark.long
def test_2000_connections_that_send_a_byte_now_and_then_do_not_slow_others(make_daemon):
    d = make_daemon(connections=0)
    slow, times, end = [], [], time.monotonic() + 60
    while time.monotonic() < end:
        while len(slow) < 2000:
            slow.append(socket.create_connection(("127.0.0.1", d.port)))
            slow[-1].sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        began = time.monotonic()
        assert d("GET", "/v1/queue").status_code == 200
        times.append(time.monotonic() - began)
        alive = []
        for s in slow[:400]:
            try:
                s.sendall(b"a")
                alive.append(s)
            except OSError:
                s.close()
        slow = slow[400:] + alive
        time.sleep(max(0, 0.25 - (time.monotonic() - began)))
    for s in slow:
        s.close()
    assert sorted(times)[len(times) * 99 // 100] < 0.25


@pytest.fixture(scope="session")
def clockshift(tmp_path_factory):
    return preloaded(tmp_path_factory.mktemp("clock"), "tools/clockshift.c")


HOUR = 3600
STEPS = {"an hour on": [HOUR], "an hour back": [-HOUR], "to 2106": [2 ** 32 - int(1_795_000_000)], "to and fro": [HOUR, -HOUR, 1, -1, 0]}


@pytest.mark.skipif(SANITIZED, reason="sanitizers do not share a process with another preloaded library")
@pytest.mark.parametrize("how", STEPS)
def test_a_clock_that_is_set_disturbs_no_running_job(make_daemon, clockshift, tmp_path, monkeypatch, how):
    clock = tmp_path / "clock"
    clock.write_bytes(struct.pack("<q", 0))
    monkeypatch.setenv("LD_PRELOAD", str(clockshift))
    monkeypatch.setenv("CLOCK_FILE", str(clock))
    d = make_daemon(workers=2)
    monkeypatch.undo()
    job = d.job("stage calibrating; sleep 1500; result model.onnx MODEL")
    until(lambda: d("GET", f"/v1/jobs/{job['id']}").json()["state"] == "running", what="the job's start")
    for step in STEPS[how]:
        with open(clock, "r+b") as f:
            f.write(struct.pack("<q", step))
        other = d.job("result model.onnx MODEL")
        assert d.ended(other["id"])["state"] == "succeeded"
    ended = d.ended(job["id"])
    assert ended["state"] == "succeeded" and ended["attempt"] == 1
    events = [e["type"] for e in d("GET", f"/v1/jobs/{job['id']}/events?limit=1000").json()["data"]]
    assert sum("running" in e for e in events) <= 1 and ended["result"]["seconds"] >= 0
    assert len(d("GET", f"/v1/jobs/{job['id']}/artifacts").json()["data"]) == 1


def submit(daemon, body, n):
    """The ids of n jobs, asked for on one connection."""
    with requests.Session() as own:
        own.headers["Authorization"] = f"Bearer {daemon.token}"
        answers = [own.post(daemon.url + "/v1/jobs", json=body, timeout=60) for _ in range(n)]
    assert {a.status_code for a in answers} == {202}, [a.text for a in answers if a.status_code != 202][:1]
    return [a.json()["id"] for a in answers]


def listen(url, token, path, told, stop):
    try:
        with requests.get(url + path, headers={"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}, stream=True, timeout=60) as answer:
            for line in answer.iter_lines():
                told.append(line)
                if stop.is_set():
                    return
    except requests.RequestException:
        pass


@pytest.mark.parametrize("jobs, readers", [(120, 40), pytest.param(10_000, 1000, marks=pytest.mark.long)])
def test_a_storm_of_cancellations_and_a_shutdown_lose_no_job(make_daemon, jobs, readers):
    d = make_daemon(drain=30, rate=0, event_readers=4 * readers, silence_timeout=3600)      # of the jobs that sleep
    body = inputs(d, "sleep 600000; result model.onnx MODEL")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = [name for part in pool.map(lambda n: submit(d, body, n), [jobs // 8] * 8) for name in part]
    told, stop = [], threading.Event()
    threads = [threading.Thread(target=listen, args=(d.url, d.token, f"/v1/jobs/{ids[i % len(ids)]}/events", told, stop), daemon=True) for i in range(readers)]
    for t in threads:
        t.start()
    rng = random.Random(5)
    canceled, storm = set(), rng.sample(ids, jobs // 2)
    for n, job in enumerate(storm):
        if n == len(storm) * 3 // 4:
            d.process.terminate()
        try:
            answer = d("POST", f"/v1/jobs/{job}/cancel")
            if answer.status_code in (200, 202):
                canceled.add(job)
        except requests.RequestException:
            break
    began = time.monotonic()
    assert d.process.wait(40) == 0 and time.monotonic() - began < 35
    stop.set()
    for t in threads:
        t.join(10)
    d.process = None
    d.start()
    states, cursor = {}, ""
    while cursor is not None:
        page = d("GET", f"/v1/jobs?limit=200{cursor}").json()
        states |= {row["id"]: row["state"] for row in page["data"]}
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
    assert set(states) == set(ids)
    assert all(states[job] == "canceled" for job in canceled) and len(canceled) > jobs // 4
    ended = [d("GET", f"/v1/jobs/{job}").json() for job, state in states.items() if state not in ("canceled", "queued", "running")]
    assert ended == []
