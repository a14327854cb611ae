"""GET /v1/jobs/{job}/logs: lines of JSON, by ranges, and as they come; and the trace a job belongs to."""
import json
import threading

from conftest import until

RUN = "stage preparing; stage quantizing; layer 1; progress 1 2; warning a.code; layer 2; result model.onnx MODEL"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


def lines(text):
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines() if line]


def test_each_event_is_a_line_with_its_level(daemon):
    job = daemon.ended(daemon.job(RUN)["id"])
    answer = daemon("GET", job["urls"]["logs"])
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "application/x-ndjson"
    log, events = lines(answer.text), daemon("GET", job["urls"]["events"]).json()["data"]
    assert [(row["seq"], row["time"], row["event"], row["data"]) for row in log] == [(e["seq"], e["at"], e["type"], e["data"]) for e in events]
    assert {row["event"]: row["level"] for row in log}["job.warning"] == "warn" and log[-1]["event"] == "job.succeeded"
    warned = lines(daemon("GET", job["urls"]["logs"], params={"level": "warn"}).text)
    assert [row["event"] for row in warned] == ["job.warning"]
    told = lines(daemon("GET", job["urls"]["logs"], params={"level": "info", "after": log[0]["seq"]}).text)
    assert told == [row for row in log[1:] if row["level"] != "debug"]


def test_a_byte_range_goes_on_where_the_last_answer_ended(daemon):
    job = daemon.ended(daemon.job(RUN)["id"])
    whole = daemon("GET", job["urls"]["logs"]).content
    half = daemon("GET", job["urls"]["logs"], headers={"Range": "bytes=0-99"})
    assert half.status_code == 206 and half.headers["Content-Range"] == f"bytes 0-99/{len(whole)}"
    rest = daemon("GET", job["urls"]["logs"], headers={"Range": "bytes=100-"})
    assert rest.status_code == 206 and half.content + rest.content == whole
    beyond = daemon("GET", job["urls"]["logs"], headers={"Range": f"bytes={len(whole)}-"})
    assert beyond.status_code == 416 and beyond.headers["Content-Range"] == f"bytes */{len(whole)}"


def test_following_ends_with_the_job(make_daemon):
    d = make_daemon(event_heartbeat="1")
    job = d.job("stage preparing; layer 1; stubborn")
    got, ended = [], threading.Event()

    def follow():
        with d("GET", job["urls"]["logs"], params={"follow": "true"}, stream=True) as answer:
            assert answer.headers["Content-Type"] == "application/x-ndjson"
            got.extend(answer.iter_lines())
        ended.set()

    reader = threading.Thread(target=follow)
    reader.start()
    until(lambda: d("GET", "/metrics").text.count("repquant_event_readers 1\n"), what="a reader")
    d("POST", job["urls"]["cancel"])
    d.ended(job["id"])
    reader.join(20)
    assert ended.is_set()
    assert [json.loads(line) for line in got if line] == lines(d("GET", job["urls"]["logs"]).text)
    log = lines(d("GET", job["urls"]["logs"]).text)
    behind = d("GET", job["urls"]["logs"], params={"follow": "true", "after": log[-1]["seq"]})
    assert (behind.status_code, behind.text) == (200, "")
    ranged = d("GET", job["urls"]["logs"], params={"follow": "true", "after": log[-1]["seq"]}, headers={"Range": "bytes=0-"})
    assert (ranged.status_code, ranged.content) == (200, b"")       # what is followed has no ranges
    again = d("GET", job["urls"]["logs"], params={"follow": "true", "after": log[-2]["seq"], "level": "info"})
    assert lines(again.text) == [log[-1]]


def test_a_job_belongs_to_the_trace_it_was_asked_for_in(daemon):
    body = daemon.inputs(RUN)
    job = daemon("POST", "/v1/jobs", json=body, headers=PARENT).json()
    assert job["trace_id"] == TRACE
    daemon.ended(job["id"])
    assert {e["trace_id"] for e in daemon("GET", job["urls"]["events"]).json()["data"]} == {TRACE}
    assert {row["trace_id"] for row in lines(daemon("GET", job["urls"]["logs"]).text)} == {TRACE}
    stream = daemon("GET", job["urls"]["events"], headers={"Accept": "text/event-stream"}).text
    assert stream.count(f'"trace_id":"{TRACE}"') == stream.count("id: ")
    without = daemon.ended(daemon("POST", "/v1/jobs", json=body).json()["id"])
    assert without["trace_id"] is None and all("trace_id" not in e for e in daemon("GET", without["urls"]["events"]).json()["data"])


def test_a_retry_belongs_to_its_own_trace(daemon):
    job = daemon("POST", "/v1/jobs", json=daemon.inputs("exit 1", max_attempts=1), headers=PARENT).json()
    daemon.ended(job["id"])
    again = daemon("POST", job["urls"]["retry"], headers={"traceparent": f"00-{'1' * 32}-b7ad6b7169203331-01"}).json()
    assert again["trace_id"] == "1" * 32 and daemon("GET", job["urls"]["self"]).json()["trace_id"] == TRACE
    daemon.ended(again["id"])


def test_a_wish_that_is_none_is_refused(daemon):
    job = daemon.ended(daemon.job(RUN)["id"])
    for name, text in (("level", "loud"), ("follow", "yes"), ("after", "x")):
        answer = daemon("GET", job["urls"]["logs"], params={name: text})
        assert (answer.status_code, answer.json()["where"]) == (400, name)
    assert daemon("GET", "/v1/jobs/job_" + "0" * 26 + "/logs").status_code == 404
