"""Attacks by requests, by their number and by time that no other suite has (tests/attacks.tsv says where the others are)."""
import concurrent.futures
import contextlib
import datetime
import http.client
import json
import math
import os
import random
import re
import socket
import statistics
import struct
import threading
import time

import pytest
import requests
from conftest import REPQUANTD, ROOT, Daemon, preloaded, until
from support import SANITIZED
from test_http_framing import HOST, parts, status
from test_pipeline_jobs import inputs

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def put(daemon, body, *fields):
    head = ["PUT /v1/models?name=chunks HTTP/1.1", "Host: localhost", "Connection: close", f"Authorization: Bearer {daemon.token}",
            "Transfer-Encoding: chunked", *fields]
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=30) as s:
        with contextlib.suppress(OSError):
            s.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
            s.shutdown(socket.SHUT_WR)      # there is no more: a chunk without an end is not waited for
        try:
            return s.recv(65536)
        except ConnectionResetError:
            return b""


# With what each may be answered. None: so large a chunk may come, and the connection ended first; or the answer is lost with what was sent behind it.
# 500 is the HTTP library's word for an extension that is too long (openapi.yaml says so).
CHUNKS = {"2^64-1": (b"ffffffffffffffff\r\nx", [None]), "2^68-1": (b"fffffffffffffffff\r\nx", [413]), "2^64": (b"10000000000000000\r\nx", [413]),
          "extension": (b"1;" + b"e" * (1 << 20) + b"\r\nx\r\n0\r\n\r\n", [500, None]), "0x1": (b"0x1\r\nx\r\n0\r\n\r\n", [400]),
          "+1": (b"+1\r\nx\r\n0\r\n\r\n", [400]), "-1": (b"-1\r\nx\r\n0\r\n\r\n", [400]), "too long": (b"1\r\nxx\r\n0\r\n\r\n", [400])}


@pytest.mark.parametrize("what", CHUNKS)
def test_a_chunk_that_lies_about_itself_stores_nothing(daemon, what):
    body, expected = CHUNKS[what]
    before = daemon("GET", "/v1/models").json()["data"]
    answer = put(daemon, body)
    assert status(answer) in expected, answer[:200]
    assert answer == b"" or b"\r\nConnection: close\r\n" in answer
    until(lambda: not daemon.leftovers(), what="the removal of the unfinished upload")
    assert daemon("GET", "/v1/models").json()["data"] == before


@pytest.mark.parametrize("token", ["rq_" + "0" * 43, "x"])
def test_a_stranger_is_not_asked_for_the_body(daemon, token):
    head = f"PUT /v1/models?name=x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
    answer = daemon.raw(head.encode())
    assert status(answer) == 401 and b"100 Continue" not in answer


def bits(value):
    return b',"recipe":{"preset":"minmax-w8a8","weights":{"bits":' + value + b"}}}"


DEEP = "the JSON is nested deeper than 16 levels"
RECIPE = b',"recipe":"minmax-w8a8"'
# Each stands behind {"type":"quantize","model_id":"...","dataset_id":"..." and would be taken but for one thing: with the status and the code, and the
# member that the problem must point at, or the text it must name with its column where the bytes are no JSON.
JSON = {
    "a number as text": (bits(b'"4"'), 422, "recipe.field", "/recipe/weights/bits"),
    "a fraction": (bits(b"4.0000001"), 422, "recipe.field", "/recipe/weights/bits"),
    "a negative number": (bits(b"-1"), 422, "recipe.field", "/recipe/weights/bits"),
    "2^64 in a recipe": (bits(b"18446744073709551616"), 400, "request.json", "18446744073709551616"),
    "1e400 in a recipe": (bits(b"1e400"), 400, "request.json", "1e400"),
    "an unknown member": (RECIPE + b',"bits":4}', 400, "request.json", "/bits"),
    "an unknown member of a recipe": (b',"recipe":{"preset":"minmax-w8a8","bits":4}}', 422, "recipe.field", "/recipe/bits"),
    "an unknown member within": (b',"recipe":{"preset":"minmax-w8a8","weights":{"bit":4}}}', 422, "recipe.field", "/recipe/weights/bit"),
    "1e400": (RECIPE + b',"priority":1e400}', 400, "request.json", "1e400"),
    "2^64": (RECIPE + b',"priority":18446744073709551616}', 400, "request.json", "18446744073709551616"),
    "NaN": (RECIPE + b',"priority":NaN}', 400, "request.json", "NaN"),
    "priority of 1.5": (RECIPE + b',"priority":1.5}', 400, "request.json", "/priority"),
    "a member twice": (RECIPE + b',"type":"quantize"}', 400, "request.json", '"type"'),
    "a member twice within": (b',"recipe":{"preset":"minmax-w8a8","preset":"minmax-w8a8"}}', 400, "request.json", '"preset"'),
    "lone surrogate": (RECIPE + b',"labels":{"a":"\\ud800"}}', 400, "request.json", '"\\ud800"'),
    "lone low surrogate": (RECIPE + b',"labels":{"a":"\\udc00"}}', 400, "request.json", '"\\udc00"'),
    "NUL": (RECIPE + b',"labels":{"a":"b\\u0000c"}}', 400, "request.json", '"b\\u0000c"'),
    "NUL in a name": (RECIPE + b',"labels":{"a\\u0000":"b"}}', 400, "request.json", "\\u0000"),
    "not UTF-8": (RECIPE + b',"labels":{"a":"\xff"}}', 400, "request.json", "0xff"),
    "trailing data": (RECIPE + b"} x", 400, "request.json", "x"),
    "two values": (RECIPE + b"}{}", 400, "request.json", "{"),
    "no end": (RECIPE, 400, "request.json", "end of file"),
    "deep": (RECIPE + b',"labels":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}", 400, "request.json", DEEP),
    "deep objects": (RECIPE + b',"labels":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}", 400, "request.json", DEEP),
    "a string of 10 MB": (RECIPE + b',"labels":{"a":"' + b"a" * 10_000_000 + b'"}}', 413, "request.too_large", None),
}


def beginning(daemon):
    names = inputs(daemon)
    return f'{{"type":"quantize","model_id":"{names["model_id"]}","dataset_id":"{names["dataset_id"]}"'.encode()


def send(daemon, body):
    return daemon("POST", "/v1/jobs", data=body, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("what", JSON)
def test_json_that_is_doubtful_is_refused_with_a_place(daemon, what):
    rest, status_, code, place = JSON[what]
    begun = beginning(daemon)
    answer = send(daemon, begun + rest)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status_, code), answer.text
    if place and place.startswith("/"):
        assert problem["pointer"] == place, answer.text
    elif place == DEEP:
        assert problem["detail"] == place
    elif place:
        column = int(re.match(r"line 1, column (\d+): ", problem["detail"])[1])
        assert len(begun) < column <= len(begun + rest) and place.lower() in problem["detail"].partition(": ")[2].lower(), answer.text


@pytest.mark.parametrize("rest", [RECIPE + b"}", RECIPE + b',"priority":1}', RECIPE + b',"labels":{"a":"\\ud83d\\ude00"}} \r\n', bits(b"4")])
def test_the_same_without_the_defect_is_taken(daemon, rest):
    answer = send(daemon, beginning(daemon) + rest)
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("body, detail", [(lambda good: b"\xef\xbb\xbf" + good, "line 1, column 1: "), (lambda good: b"[" + good + b"]", "send a JSON object"),
                                          (lambda good: b"null", "send a JSON object"), (lambda good: b"", "the body is empty")],
                         ids=["byte order mark", "a list", "a word", "nothing"])
def test_what_is_no_object_is_refused(daemon, body, detail):
    answer = send(daemon, body(beginning(daemon) + RECIPE + b"}"))
    assert answer.status_code == 400 and answer.json()["code"] == "request.json" and answer.json()["detail"].startswith(detail), answer.text


@pytest.mark.parametrize("field", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_a_field_does_not_change_the_method(daemon, field):
    model = daemon.upload("models", "#quantize \n", name="kept")
    path = f"/v1/models/{model['id']}"
    assert daemon("GET", path, headers={field: "DELETE"}).status_code == 200
    assert daemon("POST", path, headers={field: "DELETE"}).status_code == 405
    assert daemon("GET", f"{path}?_method=DELETE").status_code == 400
    assert daemon("GET", path).status_code == 200


SQL = ["' OR 1=1--", "%", "_", "\\", "\"; DROP TABLE jobs;--", "1) UNION SELECT id FROM tokens--", "0x27", "a' AND sleep(5)--"]


def queries():
    """(path, name) of each parameter that a GET takes behind its question mark."""
    document = json.loads((ROOT / "api" / "openapi.json").read_text())
    for path, item in document["paths"].items():
        for parameter in item.get("parameters", []) + item["get"].get("parameters", []) if "get" in item else []:
            if "$ref" in parameter:
                parameter = document["components"]["parameters"][parameter["$ref"].rpartition("/")[2]]
            if parameter["in"] == "query":
                yield path, parameter["name"]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, fake_job):
    """A daemon with jobs that have a label for each text, as `jobs`; what stands for the names in its paths is in `named`."""
    d = Daemon(tmp_path_factory.mktemp("sql"), fake_job, {"rate": "0", "workers": "2"}).start()
    body = inputs(d, 'layer 1; result model.onnx MODEL; result report.json {"layers":[]}')
    d.jobs = {text: d("POST", "/v1/jobs", json={**body, "labels": {"a": text}}).json()["id"] for text in [*SQL, "plain"]}
    assert {d.ended(job)["state"] for job in d.jobs.values()} == {"succeeded"}
    hook = d("POST", "/v1/webhooks", json={"url": "https://1.1.1.1/never", "events": ["job.failed"]}).json()["id"]       # and no job fails
    [artifact, *_] = d("GET", f"/v1/jobs/{d.jobs['plain']}/artifacts").json()["data"]
    d.named = {"job": d.jobs["plain"], "webhook": hook, "token": d("GET", "/v1/whoami").json()["token_id"], "digest": artifact["digest"],
               "artifact": artifact["id"]}
    yield d
    assert d.stop() == 0


@pytest.mark.parametrize("text", SQL)
def test_what_means_something_to_sql_means_nothing(labelled, text):
    d, tried = labelled, list(queries())
    assert len(tried) > 40
    for path, name in tried:
        answer = d("GET", path.format(**d.named), params={name: text})
        told = (path, name, answer.status_code, answer.text)
        if answer.status_code == 400:
            assert answer.json()["code"] == "request.invalid" and answer.json()["where"] == name, told
        elif answer.status_code == 404:
            assert name == "team" and text in answer.json()["detail"], told
        else:
            assert (answer.status_code, name) == (200, "model_id") and answer.json()["data"] == [], told
    found = d("GET", "/v1/jobs", params={"label": f"a:{text}"})
    assert [job["id"] for job in found.json()["data"]] == [d.jobs[text]]         # a literal match, of this one alone
    assert d("GET", f"/v1/models/{requests.utils.quote(text, safe='')}").status_code in (400, 404)
    assert {job["id"] for job in d("GET", "/v1/jobs").json()["data"]} == set(d.jobs.values())


DIGITS_OF_A_TOKEN = 43


def refusal(daemon, *fields):
    """The answer to one who is nobody, without what is different in every answer."""
    answer = daemon.raw("\r\n".join(["GET /v1/jobs HTTP/1.1", "Host: localhost", "Connection: close", *fields, "", ""]).encode())
    head, body = parts(answer)
    document = json.loads(body)
    assert status(answer) == document["status"] == 401 and document["code"] == "auth.required" and head["www-authenticate"].startswith("Bearer"), answer
    assert document.pop("request_id") == head.pop("x-request-id") and head.pop("date")
    return head, document


def test_who_has_no_token_that_holds_hears_the_same_whatever_is_wrong_with_it(make_daemon):
    d = make_daemon(guesses=0)
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=6)
    made = {"revoked": d("POST", "/v1/tokens", json={"name": "a", "role": "member"}).json(),
            "expired": d("POST", "/v1/tokens", json={"name": "b", "role": "member", "expires_at": soon.isoformat().replace("+00:00", "Z")}).json()}
    for row in made.values():
        assert requests.get(d.url + "/v1/jobs", headers={"Authorization": f"Bearer {row['token']}"}).status_code == 200
    assert d("DELETE", f"/v1/tokens/{made['revoked']['id']}").status_code == 204
    until(lambda: requests.get(d.url + "/v1/jobs", headers={"Authorization": f"Bearer {made['expired']['token']}"}).status_code == 401, what="the token's end")
    texts = {kind: row["token"] for kind, row in made.items()} | {
        "unknown": "rq_" + "0" * DIGITS_OF_A_TOKEN, "another last digit": d.token[:-1] + ("0" if d.token[-1] != "0" else "1"), "too short": d.token[:-1],
        "too long": d.token + "0", "8,000 bytes": "rq_" + "a" * 8000, "no digits": "rq_", "not ours": "x", "a session's": "rs_" + d.token[3:],
        "SQL": "rq_' OR 1=1--"}
    assert len(d.token) == len(texts["unknown"])
    answers = {kind: refusal(d, f"Authorization: Bearer {text}") for kind, text in texts.items()}
    assert all(answer == answers["unknown"] for answer in answers.values()), answers
    none = refusal(d)
    assert none == refusal(d, "Authorization: Basic cnE6eA==") == refusal(d, "Authorization:") == refusal(d, f"X-Token: {d.token}")
    assert none[1]["detail"] != answers["unknown"][1]["detail"]
    assert status(d.raw(b"GET /v1/jobs HTTP/1.1\r\n" + HOST + b"Authorization: Bearer rq_" + b"a" * 1_000_000 + b"\r\n\r\n")) == 431
    assert status(d.raw(f"GET /v1/jobs?token={d.token} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())) == 401


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


@contextlib.contextmanager
def flood(port, connections):
    """So many connections of 127.0.0.1 that say nothing, as long as it lasts."""
    held = [socket.socket() for _ in range(connections)]
    for s in held:
        s.setblocking(False)
        s.connect_ex(("127.0.0.1", port))
    yield
    for s in held:
        s.close()


def asked(connection, method, path, token, body=None):
    connection.request(method, path, body, {"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


@pytest.mark.parametrize("bound", [0, 100], ids=["no bound", "a bound for each address"])
def test_a_flood_of_connections_passes(tmp_path_factory, fake_job, tmp_path, monkeypatch, bound):
    """More connections than the daemon has descriptors: who is connected is served meanwhile, with a bound who comes from elsewhere is, too;
    afterwards it serves, stores and logs as before."""
    import conftest
    few = tmp_path / "few"
    few.write_text(f'#!/bin/sh\nexec prlimit --nofile=600:600 {REPQUANTD} "$@"\n')
    few.chmod(0o755)
    monkeypatch.setattr(conftest, "REPQUANTD", str(few))
    d = Daemon(tmp_path_factory.mktemp("daemon"), fake_job, {"connections": str(bound)}).start()
    try:
        other = http.client.HTTPConnection("127.0.0.1", d.port, timeout=5, source_address=("127.0.0.2", 0))
        if not bound:
            assert asked(other, "GET", "/healthz", d.token) == 200     # it is there before the flood
        with flood(d.port, 700):
            until(lambda: len(os.listdir(f"/proc/{d.process.pid}/fd")) > (bound or 200), what="the flood")
            times = []
            for _ in range(20):
                began = time.monotonic()
                assert asked(other, "GET", "/healthz", d.token) == asked(other, "GET", "/v1/models", d.token) == 200
                times.append(time.monotonic() - began)
            assert asked(other, "PUT", "/v1/models?name=meanwhile", d.token, b"#quantize \n") == 201
        assert statistics.median(times) < 0.1 or SANITIZED
        until(lambda: d.raw(b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200"), 30, "an answer after the flood")
        d.upload("models", "#quantize \n", name="after")
        assert d.process.poll() is None and [m["name"] for m in d("GET", "/v1/models").json()["data"]] == ["after", "meanwhile"]
        until(lambda: d.log.read_text().count('"method":"PUT"') == 2, what="both uploads in the log")
    finally:
        assert d.stop() == 0


HEAD_S = 10         # that a head may take (docs, openapi.yaml: "Slow clients")


def is_open(s):
    try:
        return s.recv(4096) == b"?"             # an answer or an end: it was closed
    except BlockingIOError:
        return True
    except OSError:
        return False


@pytest.mark.long
def test_2000_connections_that_send_a_byte_now_and_then_do_not_slow_others(make_daemon):
    """And none lives longer than a head may take, whatever it sends."""
    d = make_daemon(connections=0)
    slow, times, ages, end = [], [], [], time.monotonic() + 60
    while time.monotonic() < end:
        while len(slow) < 2000:
            s = socket.create_connection(("127.0.0.1", d.port))
            s.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
            s.setblocking(False)
            slow.append((time.monotonic(), s))
        began = time.monotonic()
        assert d("GET", "/v1/queue").status_code == 200
        times.append(time.monotonic() - began)
        alive = []
        for born, s in slow[:400]:
            with contextlib.suppress(OSError):
                s.sendall(b"a")
            if is_open(s):
                alive.append((born, s))
                assert time.monotonic() - born < HEAD_S + 5
            else:
                ages.append(time.monotonic() - born)
                s.close()
        slow = slow[400:] + alive
        time.sleep(max(0, 0.25 - (time.monotonic() - began)))
    for _, s in slow:
        s.close()
    assert sorted(times)[len(times) * 99 // 100] < 0.25
    assert len(ages) > 2 * 2000 and min(ages) > HEAD_S - 2, (len(ages), min(ages))


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
