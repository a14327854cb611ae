"""Who may ask, what every answer carries, and how the service ends."""
import json
import re
import socket
import subprocess
import threading
from datetime import datetime

import jsonschema
import pytest
import requests
from conftest import REPQUANTD, until


@pytest.fixture(scope="module")
def document(daemon):
    return daemon("GET", "/v1/openapi.json").json()


def operations(document):
    for path, item in document["paths"].items():
        for method in item:
            if method in ("get", "put", "post", "delete"):
                yield method.upper(), path, item[method]


def some_path(path):
    return re.sub(r"\{[^}]*\}", "x", path)


def bare(daemon, method, path, **more):
    return requests.request(method, daemon.url + path, timeout=15, **more)


BODIES = {"PUT": b"x", "POST": b"{}"}


def test_every_path_refuses_a_stranger_but_the_open_ones(daemon, document):
    asked = 0
    for method, path, operation in operations(document):
        security = operation.get("security")
        if security == [] or security and {} in security:
            assert bare(daemon, method, path.format(file="style.css")).status_code == 200, path
            continue
        for headers in ({}, {"Authorization": "Bearer rq_" + "0" * 43}, {"Authorization": "Basic cnE6eA=="}):
            answer = bare(daemon, method, some_path(path), headers=headers, data=BODIES.get(method))
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert answer.json()["code"] == "auth.required"
        asked += 1
    assert asked > 30


def test_a_token_in_the_query_is_no_token(daemon):
    assert bare(daemon, "GET", f"/v1/jobs?token={daemon.token}").status_code == 401


def test_methods_are_answered_as_the_document_says(daemon, document):
    for path, item in document["paths"].items():
        described = {m.upper() for m in item if m in ("get", "put", "post", "patch", "delete")}
        options = daemon("OPTIONS", some_path(path))
        assert options.status_code == 204
        allowed = set(options.headers["Allow"].split(", "))
        assert allowed == described | {"OPTIONS"} | ({"HEAD"} if "GET" in described else set())
        for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"} - described:
            answer = daemon(method, some_path(path), headers={"X-HTTP-Method-Override": "DELETE"})
            assert answer.status_code == 405 and answer.headers["Allow"] == options.headers["Allow"], (method, path)
        if "GET" in described:
            head, get = daemon("HEAD", some_path(path)), daemon("GET", some_path(path))
            assert head.status_code == get.status_code and head.content == b""


def test_the_queue_remembers_its_last_day(make_daemon):
    daemon = make_daemon(workers=1)
    before = daemon("GET", "/v1/queue/history").json()["data"]
    assert len(before) == 48 and {(p["depth"], p["started"], p["wait_seconds"]) for p in before} == {(0, 0, None)}
    steps = [datetime.fromisoformat(b["at"]) - datetime.fromisoformat(a["at"]) for a, b in zip(before, before[1:])]
    assert {round(s.total_seconds()) for s in steps} == {1800}
    first, second, third = (daemon.job("hang")["id"] for _ in range(3))
    runs = lambda job: until(lambda: (j := daemon("GET", f"/v1/jobs/{job}").json())["state"] == "running" and j)     # noqa: E731
    runs(first)
    assert daemon("GET", "/v1/queue/history").json()["data"][-1]["depth"] == 2
    assert daemon("POST", f"/v1/jobs/{first}/cancel", json={}).status_code == 202
    assert daemon("POST", f"/v1/jobs/{third}/cancel", json={}).status_code == 202
    job = runs(second)
    last = daemon("GET", "/v1/queue/history").json()["data"][-1]
    waited = datetime.fromisoformat(job["timestamps"]["running"]) - datetime.fromisoformat(job["timestamps"]["queued"])
    assert (last["depth"], last["started"]) == (0, 2) and waited.total_seconds() / 2 <= last["wait_seconds"] <= waited.total_seconds()


def check(document, schema, value):
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def schema_of(document, method, path, status):
    responses = document["paths"][path][method]["responses"]
    response = responses.get(str(status), responses.get("default"))
    while "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
    return next(iter(response["content"].values()))["schema"]


def test_answers_are_what_the_document_says(daemon, document):
    job = daemon.ended(daemon.job('layer 1; result model.onnx M; result report.json {}; result details.json [{"index":0}]')["id"])
    artifact = daemon("GET", job["urls"]["artifacts"]).json()["data"][0]
    names = {"model": job["request"]["model_id"], "dataset": job["request"]["dataset_id"], "job": job["id"], "artifact": artifact["id"],
             "upload": daemon("POST", "/v1/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "1"}).headers["Location"].rsplit("/", 1)[1],
             "name": "minmax-w8a8", "index": "0", "team": "local", "token": daemon("GET", "/v1/tokens").json()["data"][0]["id"],
             "webhook": daemon("POST", "/v1/webhooks", json={"url": "https://localhost:9443/"}).json()["id"]}
    names["delivery"] = daemon("POST", f"/v1/webhooks/{names['webhook']}/ping").json()["id"]
    checked = 0
    for method, path, _ in operations(document):
        if method != "GET" or path in ("/", "/metrics", "/dashboard/{file}", "/v1/session") or path.endswith(("/content", "/logs")) or "{digest}" in path:
            continue
        answer = daemon("GET", path.format(**names))
        assert answer.status_code == 200, (path, answer.text)
        whole = answer.json() if path != "/v1/audit" else json.loads(answer.text.splitlines()[0])
        check(document, schema_of(document, "get", path, 200), whole)
        checked += 1
    assert checked > 15
    problem = daemon("GET", "/v1/jobs/none")
    assert problem.status_code == 404
    check(document, {"$ref": "#/components/schemas/Problem"}, problem.json())


def test_every_answer_carries_what_protects_a_browser(daemon):
    for path in ("/", "/healthz", "/v1/jobs", "/nowhere", "/v1/openapi.json"):
        headers = daemon("GET", path).headers
        assert re.fullmatch(r"req_[0-9a-f]{16}", headers["X-Request-Id"])
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
        assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in headers


def test_the_dashboard_holds_no_inline_script_and_asks_nobody_else(daemon):
    page = daemon("GET", "/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = dict(directive.strip().split(" ", 1) for directive in page.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=|https?:", page.text)
    named = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert len(named) >= 3
    for path in named:
        answer = bare(daemon, "GET", path)
        assert answer.status_code == 200 and answer.content and "Content-Security-Policy" in answer.headers
        if path.endswith(".js"):
            assert answer.headers["Content-Type"].startswith("text/javascript")
    assert bare(daemon, "GET", "/dashboard/nothing.js").json()["code"] == "resource.not_found"


def test_only_our_own_names_are_served(make_daemon):
    daemon = make_daemon(hosts="quant.example")
    for host, status in (("localhost", 200), ("quant.example:8080", 200), ("evil.example", 421), ("127.0.0.1.evil.example", 421)):
        assert daemon("GET", "/", headers={"Host": host}).status_code == status
    assert daemon("GET", "/healthz", headers={"Host": "10.0.0.7"}).status_code == 200


def test_without_tokens_another_sites_page_is_still_refused(make_daemon):
    daemon = make_daemon(auth="off")
    assert daemon("GET", "/v1/jobs").status_code == 200
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        for method in ("POST", "PUT", "DELETE"):
            path = {"POST": "/v1/jobs", "PUT": "/v1/models", "DELETE": "/v1/models/x"}[method]
            assert daemon(method, path, headers=headers, data=BODIES.get(method)).status_code == 403
    assert daemon("DELETE", "/v1/models/x", headers={"Origin": daemon.url}).status_code == 404


def test_an_own_failure_tells_no_paths(make_daemon):
    daemon = make_daemon()
    model = daemon("PUT", "/v1/models?name=x", data=b"x").json()
    file = daemon.blob(model["digest"])
    file.unlink()
    file.symlink_to("/dev/null")                # which is not opened
    answer = daemon("GET", f"/v1/blobs/{model['digest']}")
    assert answer.status_code == 500
    assert str(daemon.data) not in answer.text and file.parent.name + "/" not in answer.json()["detail"]
    until(lambda: answer.headers["X-Request-Id"] in daemon.log.read_text(), what="the request in the log")   # written once it is over


def test_a_log_line_cannot_be_forged(daemon):
    daemon.raw(b"GET /v1/models/%0a{%22level%22:%22error%22} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    daemon.raw(b"GET /\x1b[31mred HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    log = daemon.log.read_bytes()
    assert all(b == 10 or 32 <= b < 127 for b in log)
    assert not re.search(rb'^\{"level"', log, re.M)


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def access_line(d, request):
    """The line of a request, which is written when it is over; there is one."""
    lines = until(lambda: [line for line in d.log.read_text().splitlines() if request in line], what="the request in the log")
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("traceparent, trace", [
    (f"00-{TRACE}-00f067aa0ba902b7-01", TRACE), (f"01-{TRACE}-00f067aa0ba902b7-01-more", TRACE), (f"00-{TRACE}-00f067aa0ba902b7-01-more", None),
    (f"ff-{TRACE}-00f067aa0ba902b7-01", None), (f"00-{'0' * 32}-00f067aa0ba902b7-01", None), (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", None),
    ("00", None), (None, None),
])
def test_a_request_is_one_line_of_json_that_says_whose_it_is(daemon, traceparent, trace):
    answer = daemon("GET", "/v1/models/mdl_none?", headers={"traceparent": traceparent} if traceparent else {})
    line = json.loads(access_line(daemon, answer.headers["X-Request-Id"]))
    assert line["event"] == "http.request" and line["method"] == "GET" and line["status"] == answer.status_code == 404
    assert line["path"] == "/v1/models/mdl_none" and line["route"] == "/v1/models/{model}" and line["peer"] == "127.0.0.1"
    assert line["error"] == "resource.not_found" and line["detail"] and line["ms"] >= 0 and line["token"].startswith("tok_")
    assert line.get("trace") == trace


def test_no_secret_is_in_the_log(daemon):
    session = daemon("POST", "/v1/session", json={})
    cookie = session.headers["Set-Cookie"].split(";")[0].split("=")[1]
    made = daemon("POST", "/v1/tokens", json={"name": "quiet", "role": "viewer"}).json()
    for query in ("?label=SECRET:SECRET", "?state=SECRET"):
        answer = daemon("GET", "/v1/jobs" + query, headers={"Cookie": "x=SECRET", "Idempotency-Key": "SECRET"})
        access_line(daemon, answer.headers["X-Request-Id"])
    log = daemon.log.read_text()
    assert not any(secret in log.replace(daemon.token, "", 1) for secret in ("SECRET", cookie, made["token"], session.json()["csrf_token"]))


def test_a_log_for_people(make_daemon):
    d = make_daemon(log_format="text")
    answer = d("GET", "/v1/models/%22%20x")
    line = access_line(d, answer.headers["X-Request-Id"])
    assert re.match(r'\d{4}-\d\d-\d\dT[\d:.]+Z info  http\.request method=GET path=/v1/models/%22%20x route=/v1/models/{model} status=404 ms=', line), line
    d.stop()
    assert subprocess.run([REPQUANTD, "--log-format=xml"], capture_output=True, timeout=20).returncode == 2


def test_slow_clients_do_not_slow_others(daemon):
    slow = [socket.create_connection(("127.0.0.1", daemon.port)) for _ in range(300)]
    for s in slow:
        s.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
    worst = max(daemon("GET", "/v1/queue").elapsed.total_seconds() for _ in range(50))
    for s in slow:
        s.close()
    assert worst < 1


def test_the_end_waits_for_answers_under_way(make_daemon):
    daemon = make_daemon()
    answers = []
    upload = threading.Thread(target=lambda: answers.append(bare(
        daemon, "PUT", "/v1/models?name=slow", data=b"#inspect sleep 500; result result.json {}\n",
        headers={"Authorization": f"Bearer {daemon.token}"})))
    upload.start()
    until(lambda: any((daemon.data / "scratch").iterdir()), what="the inspection's start")
    status = daemon.stop()
    upload.join()
    assert status == 0
    assert answers[0].status_code in (201, 503)
    if answers[0].status_code == 503:
        assert answers[0].json()["code"] == "service.draining"


@pytest.mark.parametrize("script", ["openapi_json.py", "errors_md.py"])
def test_what_is_made_from_a_source_is_what_that_says(script):
    import pathlib
    import subprocess
    import sys
    scripts = pathlib.Path(__file__).resolve().parent.parent.parent / "scripts"
    subprocess.run([sys.executable, str(scripts / script), "--check"], check=True)
