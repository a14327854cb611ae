"""Jobs that a pipeline can rely on: asked for once however often the request is sent, run once however often it is killed."""
import json
import os
import random
import signal
import socket
import sqlite3
import struct
import threading
import time

import pytest
import requests
from conftest import REPQUANT, SANITIZER, preloaded, until
from support import DIGITS, MODELS, SANITIZED, needs, pictures
from support import digest_of as sha256_of

from test_daemon_life import children, kill
from test_metrics import value

# What the child tells about the job; with the daemon's own settings in it, it is asked once for all jobs that are alike.
ESTIMATE = {"memory_bytes": 1000, "fixed_bytes": 1000, "seconds": 1, "threads": 1, "budget_bytes": 1 << 30, "samples": 4}


def told(**estimate):
    return "#inspect result result.json " + json.dumps({"estimate": {**ESTIMATE, **estimate}, "problems": [], "plan": [], "coverage": {}},
                                                       separators=(",", ":")) + "\n"


def inputs(daemon, script="result model.onnx MODEL", look=None, **more):
    """The body of a job whose child knows what it will take."""
    model = daemon.upload("models", f"#quantize {script}\n{look or told()}", name="model")
    data = daemon.upload("datasets", '#inspect result result.json {"format":"npz","samples":4}\n', name="data")
    return {"type": "quantize", "model_id": model["id"], "dataset_id": data["id"], "recipe": "minmax-w8a8", **more}


def types(daemon, job):
    return [e["type"] for e in daemon("GET", f"/v1/jobs/{job['id']}/events?limit=1000").json()["data"]]


# ---- asked for once ----

def insist(daemon, body, key, rng, patience=60):
    """What a flaky client does: it gives up quickly and asks again, with the same key, until it has an answer."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            answer = requests.post(daemon.url + "/v1/jobs", json=body, timeout=rng.choice((0.002, 0.01, 0.05, 2)),
                                   headers={"Idempotency-Key": key, "Authorization": f"Bearer {daemon.token}"})
        except requests.exceptions.RequestException:
            continue
        if answer.status_code == 202:
            return answer.json()
        assert answer.status_code in (502, 503), answer.text
    pytest.fail(f"no answer to {key} in {patience} s")


def test_200_submissions_of_a_flaky_client_make_one_job_each_however_often_the_daemon_restarts(make_daemon):
    daemon = make_daemon(threads="1")
    body, rng, sent = inputs(daemon, max_attempts=100), random.Random(6), {}      # a kill costs the job that runs an attempt

    def submit(keys):
        mine = random.Random(keys[0])
        for key in keys:
            time.sleep(mine.uniform(0, 0.12))                      # pushes come now and then
            sent[key] = insist(daemon, {**body, "labels": {"key": key}}, key, mine)["id"]

    clients = [threading.Thread(target=submit, args=([f"push-{c}-{n}" for n in range(50)],)) for c in range(4)]
    for c in clients:
        c.start()
    restarts = 0
    while any(c.is_alive() for c in clients):
        time.sleep(rng.uniform(0, 0.2))
        if restarts % 4 == 3:
            assert daemon.stop() == 0
        else:
            kill(daemon)
        daemon.start()
        restarts += 1
    assert len(sent) == 200 and restarts >= 5
    jobs, cursor = {}, ""
    while cursor is not None:
        page = daemon("GET", "/v1/jobs?limit=200" + (f"&cursor={cursor}" if cursor else "")).json()
        jobs.update({job["id"]: job for job in page["data"]})
        cursor = page["next_cursor"]
    assert {job["request"]["labels"]["key"]: id_ for id_, job in jobs.items()} == sent and len(jobs) == 200
    for id_ in sent.values():
        assert daemon.ended(id_, 60)["state"] == "succeeded"
    key, id_ = next(iter(sent.items()))
    again = daemon("POST", "/v1/jobs", json={**body, "labels": {"key": key}}, headers={"Idempotency-Key": key})
    assert again.json()["id"] == id_ and again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["state"] == "queued"                       # as it was answered then


KINDS = pytest.mark.parametrize("kind, script", [("models", "m"), ("datasets", '#inspect result result.json {"format":"npz","samples":4}\n')])


def registration(daemon, kind, script, name):
    digest = sha256_of(script.encode())
    assert daemon("PUT", f"/v1/blobs/{digest}", data=script.encode()).status_code in (200, 201)
    return {"name": name, "digest": digest}


def named(daemon, kind, name):
    return [a["id"] for a in daemon("GET", f"/v1/{kind}?limit=200").json()["data"] if a["name"] == name]


@KINDS
def test_a_registration_whose_answer_was_lost_is_sent_again_and_makes_nothing_new(daemon, kind, script):
    body = registration(daemon, kind, script, "lost")
    text = json.dumps(body)
    with socket.create_connection(("127.0.0.1", daemon.port)) as s:       # gone before the answer
        s.sendall(f"POST /v1/{kind} HTTP/1.1\r\nHost: 127.0.0.1:{daemon.port}\r\nAuthorization: Bearer {daemon.token}\r\nIdempotency-Key: lost-{kind}\r\n"
                  f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
    [made] = until(lambda: named(daemon, kind, "lost"), what="what the first request makes")
    again = daemon("POST", f"/v1/{kind}", data=text, headers={"Content-Type": "application/json", "Idempotency-Key": f"lost-{kind}"})
    assert again.status_code == 201 and again.json()["id"] == made and again.headers["Location"] == f"/v1/{kind}/{made}"
    assert again.headers["Idempotency-Replayed"] == "true" and again.json() == daemon("GET", f"/v1/{kind}/{made}").json()
    assert named(daemon, kind, "lost") == [made]
    other = daemon("POST", f"/v1/{kind}", json={**body, "name": "other"}, headers={"Idempotency-Key": f"lost-{kind}"})
    assert other.status_code == 422 and other.json()["code"] == "idempotency.key_reused"
    assert not named(daemon, kind, "other")


@KINDS
def test_one_key_makes_one_model_however_many_ask_at_once(daemon, kind, script):
    body, answers = registration(daemon, kind, script, "many"), []

    def ask():
        answers.append(daemon("POST", f"/v1/{kind}", json=body, headers={"Idempotency-Key": f"many-{kind}"}))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {a.status_code for a in answers} == {201} and {a.json()["id"] for a in answers} == set(named(daemon, kind, "many"))
    assert len(named(daemon, kind, "many")) == 1 and sum("Idempotency-Replayed" not in a.headers for a in answers) == 1


def test_a_replay_says_what_was_said_and_outlives_the_job(daemon):
    body = inputs(daemon)
    first = daemon("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": "replayed"})
    daemon.ended(first.json()["id"])
    assert daemon("DELETE", f"/v1/jobs/{first.json()['id']}").status_code == 204
    again = daemon("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": "replayed"})
    assert (again.status_code, again.content, again.headers["Location"]) == (first.status_code, first.content, first.headers["Location"])
    assert "Idempotency-Replayed" not in first.headers and again.headers["Idempotency-Replayed"] == "true"
    other = daemon("POST", "/v1/jobs", json={**body, "priority": 1}, headers={"Idempotency-Key": "replayed"})
    assert other.status_code == 422 and other.json()["code"] == "idempotency.key_reused"
    wrong = daemon("POST", "/v1/jobs", json={**body, "priority": 77}, headers={"Idempotency-Key": "corrected"})
    assert wrong.status_code == 400
    assert daemon("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": "corrected"}).status_code == 202


def test_the_same_push_twice_costs_nothing(daemon):
    body = inputs(daemon, "result model.onnx TWICE", dedupe="reuse")
    first = daemon("POST", "/v1/jobs", json=body)
    assert first.status_code == 202 and first.json()["cache"] == "miss"
    daemon.ended(first.json()["id"])
    second = daemon("POST", "/v1/jobs", json=body)
    assert second.status_code == 200 and second.json()["cache"] == "hit"
    assert second.json()["id"] == first.json()["id"] and second.json()["state"] == "succeeded"
    refused = daemon("POST", "/v1/jobs", json={**body, "dedupe": "reject"})
    assert refused.status_code == 409 and first.json()["id"] in refused.json()["detail"]
    assert daemon("POST", "/v1/jobs", json={**body, "dedupe": "new"}).json()["id"] != first.json()["id"]


# ---- when ----

def test_a_job_waits_for_its_time_and_another_does_not(daemon):
    soon = time.time() + 1.5
    body = inputs(daemon)
    later = daemon("POST", "/v1/jobs", json={**body, "not_before": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(soon + 1))}).json()
    now = daemon("POST", "/v1/jobs", json=body).json()
    daemon.ended(now["id"])
    assert daemon("GET", later["urls"]["self"]).json()["state"] == "queued"
    assert daemon.ended(later["id"])["timestamps"]["running"] >= later["request"]["not_before"]


def test_a_deadline_ends_a_job_whether_it_runs_or_waits(make_daemon):
    daemon = make_daemon(workers="1", threads="1")
    body = inputs(daemon, "stage quantizing;hang", deadline_s=2)
    running = daemon("POST", "/v1/jobs", json=body).json()
    waiting = daemon("POST", "/v1/jobs", json={**body, "deadline_s": 1}).json()
    for job in (waiting, running):
        ended = daemon.ended(job["id"])
        assert ended["state"] == "failed" and ended["problem"]["code"] == "resource.deadline", ended
        assert "deadline" in ended["problem"]["detail"]
    assert types(daemon, waiting) == ["job.queued", "job.failed"]
    assert ended["attempt"] == 1


def test_a_job_is_tried_as_often_as_it_was_asked_for(daemon):
    once = daemon.ended(daemon("POST", "/v1/jobs", json=inputs(daemon, "exit 7", max_attempts=1)).json()["id"])
    assert once["state"] == "failed" and once["attempt"] == 1
    five = daemon.ended(daemon("POST", "/v1/jobs", json=inputs(daemon, "exit 7", max_attempts=5)).json()["id"])
    assert five["state"] == "failed" and five["attempt"] == 5


def test_who_canceled_and_why_is_kept(daemon):
    job = daemon("POST", "/v1/jobs", json=inputs(daemon, "stage quantizing;hang")).json()
    began = time.monotonic()
    answer = daemon("POST", job["urls"]["cancel"], json={"reason": "wrong branch"})
    assert answer.status_code == 202
    ended = daemon.ended(job["id"])
    assert ended["state"] == "canceled" and ended["cancellation"]["reason"] == "wrong branch"
    assert time.monotonic() - began < 4                            # two, and what a busy machine adds
    assert ended["cancellation"]["by"].startswith("tok_") and ended["cancellation"]["at"]


# ---- what it takes ----

def test_a_dry_run_makes_nothing_and_says_what_would_be(make_daemon):
    daemon = make_daemon(threads="1", jobs_memory="1M")
    body = inputs(daemon, look=told(memory_bytes=3 << 20, fixed_bytes=1 << 19, samples=50))
    dry = daemon("POST", "/v1/jobs?dry_run=true", json=body, headers={"Idempotency-Key": "dry"})
    assert dry.status_code == 200 and dry.json()["estimate"]["memory_bytes"] == 3 << 20
    (problem,) = dry.json()["problems"]
    assert problem["level"] == "error" and problem["code"] == "resource.memory_exceeded"
    assert "10 of the 50" in problem["detail"]                     # (1 - 0.5) / (3 - 0.5) of them
    refused = daemon("POST", "/v1/jobs", json=body)
    assert refused.status_code == 422 and refused.json()["code"] == "resource.memory_exceeded"
    assert refused.json()["pointer"] == "/recipe/calibration/samples" and "10 of the 50" in refused.json()["detail"]
    assert daemon("GET", "/v1/jobs").json()["data"] == []
    assert daemon("POST", "/v1/jobs?dry_run=maybe", json=body).status_code == 400
    assert daemon("POST", "/v1/jobs?dry_run=true", json={**body, "recipe": "none"}).status_code == 422


def test_what_takes_seconds_holds_up_no_job_whose_needs_are_known(make_daemon):
    """More uploads than are looked at at a time, and then a job like one before."""
    daemon = make_daemon(threads="1")
    body = inputs(daemon)
    assert daemon("POST", "/v1/jobs", json=body).status_code == 202
    looked_at = [threading.Thread(target=daemon.upload, args=("models", f"#inspect sleep 1500;result result.json {{\"n\":{n}}}\n")) for n in range(6)]
    for upload in looked_at:
        upload.start()
    until(lambda: len(children(daemon)) == 2, what="the inspections")
    assert daemon("POST", "/v1/jobs", json=body).status_code == 202
    assert all(upload.is_alive() for upload in looked_at)
    for upload in looked_at:
        upload.join()


@pytest.fixture
def on_slow_disk(make_daemon, tmp_path):
    """A daemon whose disk takes so many milliseconds more for each sync, and a job that waits long, like one that was asked for before."""
    if SANITIZER:
        pytest.skip("sanitizers do not share a process with another preloaded library")
    library = preloaded(tmp_path, "tools/slow_sync.c")

    def make(ms):
        daemon = make_daemon(threads="1", rate="0")
        body = {**inputs(daemon), "not_before": "2090-01-01T00:00:00Z"}
        assert daemon("POST", "/v1/jobs", json=body).status_code == 202
        daemon.stop()
        daemon.environment = {"LD_PRELOAD": str(library), "SLOW_SYNC_US": str(1000 * ms)}
        (daemon.folder / "port").unlink(missing_ok=True)
        return daemon.start(), body
    return make


def post_together(daemon, body, clients, times, done):
    def client():
        with requests.Session() as session:
            for _ in range(times):
                answer = session.post(daemon.url + "/v1/jobs", json=body, headers={"Authorization": f"Bearer {daemon.token}"}, timeout=60)
                assert answer.status_code == 202
                done.append(answer.json()["id"])

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for t in threads:
        t.start()
    return threads


def test_jobs_that_come_together_share_their_commits(on_slow_disk):
    """As many at a time as there are clients: not one after the other, and not two lots waiting for each other."""
    (daemon, body), done = on_slow_disk(20), []
    before = value(daemon, "repquant_database_commit_seconds_count")
    for t in post_together(daemon, body, 32, 10, done):
        t.join()
    assert len(set(done)) == 320
    assert value(daemon, "repquant_database_commit_seconds_count") - before <= 320 / 4


def test_who_reads_does_not_wait_for_the_disk_behind_those_who_write(on_slow_disk):
    (daemon, body), done = on_slow_disk(1500), []
    threads = post_together(daemon, body, 48, 1, done)
    until(lambda: value(daemon, "repquant_http_requests_in_flight") > 40, what="more posts than workers")
    assert daemon("GET", "/v1/queue").status_code == 200 and daemon("GET", "/v1/jobs").status_code == 200
    assert not done
    for t in threads:
        t.join()
    assert len(set(done)) == 48


def test_who_is_let_in_does_not_wait_until_the_use_of_the_token_is_noted(on_slow_disk):
    daemon, _ = on_slow_disk(2500)
    made = daemon("POST", "/v1/tokens", json={"name": "new", "role": "member"}).json()
    asked = time.monotonic()
    assert daemon("GET", "/v1/whoami", headers={"Authorization": f"Bearer {made['token']}"}).json()["name"] == "new"
    assert time.monotonic() - asked < 2
    until(lambda: daemon("GET", f"/v1/tokens/{made['id']}").json()["last_used_at"], what="the note")


def test_strangers_who_ask_whether_it_is_ready_hold_up_nobody(on_slow_disk):
    (daemon, body), done = on_slow_disk(2500), []
    posts = post_together(daemon, body, 4, 3, done)
    until(lambda: value(daemon, "repquant_http_requests_in_flight") > 4, what="a commit to wait for")
    probes = [threading.Thread(target=requests.get, args=(daemon.url + "/readyz",), kwargs={"timeout": 60}) for _ in range(32)]
    for t in probes:
        t.start()
    until(lambda: value(daemon, "repquant_http_requests_in_flight") > 24, what="more than there are workers for reads")
    asked = time.monotonic()
    assert daemon("GET", "/v1/jobs").status_code == 200 and daemon("GET", "/v1/queue").status_code == 200
    assert time.monotonic() - asked < 2 and any(t.is_alive() for t in probes)
    for t in posts + probes:
        t.join()


def test_jobs_start_only_when_their_memory_is_free(make_daemon):
    daemon = make_daemon(workers="3", threads="1", jobs_memory="10M")
    large = inputs(daemon, "stage quantizing;hang", look=told(memory_bytes=6 << 20))
    small = inputs(daemon, "stage exporting;hang", look=told(memory_bytes=3 << 20))
    first = daemon("POST", "/v1/jobs", json=large).json()
    until(lambda: daemon("GET", first["urls"]["self"]).json()["stage"] == "quantizing", what="the first")
    second = daemon("POST", "/v1/jobs", json=large).json()
    third = daemon("POST", "/v1/jobs", json=small).json()
    assert daemon("POST", first["urls"]["cancel"]).status_code == 202
    for job in (second, third):
        until(lambda job=job: daemon("GET", job["urls"]["self"]).json()["state"] == "running", what="the others")
    first, second, third = (daemon("GET", j["urls"]["self"]).json()["timestamps"] for j in (first, second, third))
    assert first["canceled"] <= second["running"] <= third["running"]


def test_data_that_does_not_fit_the_model_is_refused_when_the_job_is_asked_for(daemon):
    look = '#inspect result result.json {"problems":[{"level":"error","code":"dataset.schema","pointer":"/dataset_id","where":"x","detail":"no"}]}\n'
    body = inputs(daemon, look=look)
    refused = daemon("POST", "/v1/jobs", json=body)
    assert refused.status_code == 422 and refused.json()["code"] == "dataset.schema" and refused.json()["pointer"] == "/dataset_id"
    assert daemon("POST", "/v1/jobs?dry_run=true", json=body).json()["problems"][0]["code"] == "dataset.schema"


# ---- what is kept ----

def test_what_was_kept_long_enough_is_gone_after_the_next_start(make_daemon):
    daemon = make_daemon(keep_jobs="30", keep_events="7", keep_artifacts="14")
    bodies = {age: inputs(daemon, f"result model.onnx AGE{age}") for age in (40, 20, 10, 1)}
    jobs = {age: daemon.ended(daemon("POST", "/v1/jobs", json=body).json()["id"]) for age, body in bodies.items()}
    assert daemon.stop() == 0
    with sqlite3.connect(daemon.data / "repquant.db") as db:
        for age, job in jobs.items():
            db.execute("UPDATE jobs SET succeeded_at = succeeded_at - ? WHERE id = ?", (age * 86400 * 10**6, job["id"]))
        db.execute("UPDATE blob_owners SET created_at = created_at - ?", (3 * 86400 * 10**6,))
    db.close()
    daemon.start()
    until(lambda: "store.sweep" in daemon.log.read_text(), what="the sweep")
    assert daemon("GET", jobs[40]["urls"]["self"]).status_code == 404
    left = {age: (len(daemon("GET", jobs[age]["urls"]["artifacts"]).json()["data"]), len(types(daemon, jobs[age])) > 0) for age in (20, 10, 1)}
    assert left == {20: (0, False), 10: (1, False), 1: (1, True)}
    blobs = [p.read_bytes() for p in (daemon.data / "blobs").rglob("*") if p.is_file()]
    assert b"AGE1" in blobs and b"AGE10" in blobs and b"AGE20" not in blobs and b"AGE40" not in blobs


# ---- run once ----

def site_records(journal):
    """How many sites have a whole record (core/sweep/journal.h); each has one at most."""
    data, at, sites = journal.read_bytes(), 8 + 32, []
    while at + 16 <= len(data):
        kind, index, size = struct.unpack_from("=IIQ", data, at)
        if at + 16 + size + 32 > len(data):
            break
        at += 16 + size + 32
        sites += [index] if kind == 1 else []
    assert len(sites) == len(set(sites)), "a site was searched twice"
    return len(sites)


def quantize_body(daemon, model, calib, recipe):
    ids = {}
    for kind, path in (("models", model), ("datasets", calib)):
        with open(path, "rb") as f:
            answer = daemon("PUT", f"/v1/{kind}?name={kind}", data=f)
        assert answer.status_code == 201, answer.text
        ids[kind] = answer.json()["id"]
    return {"type": "quantize", "model_id": ids["models"], "dataset_id": ids["datasets"], "recipe": recipe}


def digest_of(daemon, job):
    return {a["name"]: a["digest"] for a in daemon("GET", job["urls"]["artifacts"]).json()["data"]}["model.onnx"]


def left_alone(daemon, body):
    """What becomes of the job if nobody kills anything."""
    whole = daemon.ended(daemon("POST", "/v1/jobs", json=body).json()["id"], 300)
    assert whole["state"] == "succeeded", whole
    return whole


def kill_again_and_again(daemon, body, whole, kills, rng):
    """A job that is killed, or its daemon, at most so often before it is done; it ends like the one that was left alone.  How often it was."""
    longest = whole["result"]["seconds"]
    job = daemon("POST", "/v1/jobs", json={**body, "max_attempts": 100}).json()
    done, of_daemon, expected = 0, 0, {}
    while done < kills:
        state = until(lambda: (s := daemon("GET", job["urls"]["self"]).json())["state"] != "queued" and s, 30, "the job's start")
        if state["state"] != "running":
            break                                                  # it was done before so many kills were
        time.sleep(rng.uniform(0, 1.1 * longest / 2))
        pids = [int(row.split()[0]) for row in children(daemon)]
        if not pids:
            continue
        if rng.random() < 0.5:
            os.kill(pids[0], signal.SIGKILL)
            until(lambda: daemon("GET", job["urls"]["self"]).json()["attempt"] > state["attempt"] or
                  daemon("GET", job["urls"]["self"]).json()["state"] == "succeeded", 30, "the next attempt")
        else:
            kill(daemon)
            until(lambda: not children(daemon), 10, "the child's end")
            journals = list((daemon.data / "scratch" / job["id"]).rglob("journal")) if (daemon.data / "scratch" / job["id"]).exists() else []
            if journals:
                expected[state["attempt"] + 1] = site_records(max(journals, key=lambda p: int(p.parent.name)))
            daemon.start()
            of_daemon += 1
        done += 1
    ended = daemon.ended(job["id"], 300)
    assert ended["state"] == "succeeded", ended
    events = daemon("GET", f"/v1/jobs/{job['id']}/events?limit=1000").json()["data"]
    names = [e["type"] for e in events]
    assert names.count("job.succeeded") == 1 and names.count("artifact.created") == len(daemon("GET", job["urls"]["artifacts"]).json()["data"])
    assert digest_of(daemon, job) == digest_of(daemon, whole)
    # No site that was finished is searched again: each attempt begins with all that the one before had.
    resumed = {e["data"]["attempt"]: e["data"]["sites"] for e in events if e["type"] == "job.resumed"}
    assert sorted(resumed.values()) == [resumed[a] for a in sorted(resumed)]
    assert {a: n for a, n in resumed.items() if a in expected} == {a: n for a, n in expected.items() if n and a in resumed}
    assert sorted(expected.values()) == [expected[a] for a in sorted(expected)], expected
    for attempt, sites in expected.items():        # an attempt that was killed at once may not have come to say so
        assert resumed.get(attempt, 0) == sites or (attempt not in resumed and attempt != ended["attempt"]), (attempt, sites, resumed)
    report = daemon("GET", job["urls"]["report"] + "?format=json").json()["summary"]
    assert report["replayed_sites"] + report["searched_sites"] == report["sites"]
    assert report["replayed_sites"] == resumed.get(ended["attempt"], 0)
    print(json.dumps({"kills": done, "of the daemon": of_daemon, "attempts": ended["attempt"], "sites": report["sites"], "sites resumed": resumed}))
    return done


def test_killed_at_random_moments_a_job_ends_once_with_the_same_bytes(make_daemon):
    daemon = make_daemon(program=REPQUANT, workers="1")
    body = quantize_body(daemon, DIGITS / "model.onnx", DIGITS / "calib.npz", "repquant-w4a4")
    assert kill_again_and_again(daemon, body, left_alone(daemon, body), 6, random.Random(1)) > 0


@pytest.mark.long
@pytest.mark.parametrize("part", ["first", "second", "third", "fourth", "fifth"])
@needs(MODELS / "deit-tiny.onnx")
@pytest.mark.skipif(SANITIZED, reason="takes too long")
def test_killed_at_20_random_moments(part, make_daemon):
    """One hundred in all, each twenty a piece of make test-long."""
    daemon = make_daemon(program=REPQUANT, workers="1")
    body = quantize_body(daemon, MODELS / "deit-tiny.onnx", pictures("deit", "calib", 16), "repquant-w4a4")
    whole, rng, kills = left_alone(daemon, body), random.Random(part), 0
    while kills < 20:
        kills += kill_again_and_again(daemon, body, whole, 20 - kills, rng)
