"""Webhooks: what a receiver gets, verified by others' libraries; and what becomes of receivers that are down, slow, redirecting, lying or rebinding."""
import base64
import datetime
import os
import re
import subprocess
import threading
import time

import pytest
import requests
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from conftest import ROOT, SANITIZER, Daemon, preloaded, until
from receiver import Mute, Receiver, certificate, system_trusts
from standardwebhooks import Webhook, WebhookVerificationError

RUN = 'stage calibrating; layer 1; result model.onnx M; result report.json {}; result details.json [{"index":0}]'
TERMINAL = ["job.succeeded", "job.failed", "job.canceled"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    certificate(folder)
    return folder


@pytest.fixture
def receiver(folder):
    r = Receiver(folder)
    yield r
    r.end()


def options(folder, **more):
    return {"outbound-private": "127.0.0.1/32,::1", "outbound-ca": str(folder / "cert"), "webhook-retries": "0,1,1", "webhook-timeout": "2", "webhooks": "100", **more}


@pytest.fixture(scope="module")
def hooked(tmp_path_factory, fake_job, folder):
    """A daemon whose webhooks may go to this machine."""
    d = Daemon(tmp_path_factory.mktemp("hooked"), fake_job, options(folder)).start()
    yield d
    assert d.process.poll() is None, "the daemon has died: " + d.log.read_text()[-4000:]
    assert d.stop() == 0


def hook(daemon, url, **more):
    answer = daemon("POST", "/v1/webhooks", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def ping(daemon, hook_id):
    answer = daemon("POST", f"/v1/webhooks/{hook_id}/ping")
    assert answer.status_code == 202, answer.text
    return answer.headers["Location"]


def settled(daemon, path, *states, seconds=20):
    """The delivery, once it is in one of the states."""
    return until(lambda: (d := daemon("GET", path).json())["state"] in states and d, seconds, f"a delivery that is {' or '.join(states)}")


def tried(daemon, path, n=1, seconds=20):
    return until(lambda: len((d := daemon("GET", path).json())["log"]) >= n and d, seconds, f"{n} attempts")


def at(text):
    return datetime.datetime.fromisoformat(text)


def event(call):
    return from_http_event(HTTPMessage(headers=call.headers, body=call.body))


# ---- what a receiver gets ----

def test_every_event_is_a_signed_cloudevent(hooked, receiver):
    made = hook(hooked, f"{receiver.url}/all/200", name="all")
    job = hooked.ended(hooked.job(RUN, labels={"team": "vision"})["id"])
    calls = until(lambda: any(b"io.repquant.job.succeeded" in c.body for c in receiver.calls) and list(receiver.calls), what="the job's end")
    verifier = Webhook(made["secret"])
    events = []
    for call in calls:
        verifier.verify(call.body, call.headers)
        events.append(event(call))
        assert events[-1].get_id() == call.headers["webhook-id"] and len(call.body) < 20_000
        assert call.headers["Content-Type"] == "application/cloudevents+json" and call.headers["User-Agent"].startswith("repquant/")
        assert events[-1].get_source() == "/v1" and events[-1].get_subject() == job["id"] and events[-1].get_datacontenttype() == "application/json"
    recorded = [e for e in hooked("GET", job["urls"]["events"]).json()["data"] if e["type"] not in ("job.progress", "job.layer_completed")]
    assert [e.get_type() for e in events] == [f"io.repquant.{e['type']}" for e in recorded]         # in order, none missing
    assert [int(e.get_attributes()["sequence"]) for e in events] == [e["seq"] for e in recorded]
    assert [e.get_data()["event"] for e in events] == [e["data"] for e in recorded]
    last = events[-1].get_data()
    assert last["job"]["id"] == job["id"] and last["job"]["state"] == "succeeded" and last["job"]["labels"] == {"team": "vision"}
    assert last["urls"]["job"] == f"/v1/jobs/{job['id']}"
    for wrong in (Webhook("whsec_" + base64.b64encode(b"k" * 32).decode()), verifier):
        with pytest.raises(WebhookVerificationError):
            wrong.verify(calls[0].body + (b" " if wrong is verifier else b""), calls[0].headers)
    hooked("DELETE", f"/v1/webhooks/{made['id']}")


def test_only_the_types_that_were_asked_for_are_sent(hooked, receiver):
    made = [hook(hooked, f"{receiver.url}/layers/200", events=["job.layer_completed"]), hook(hooked, f"{receiver.url}/end/200", events=TERMINAL)]
    hooked.ended(hooked.job(RUN)["id"])
    receiver.got("/end/200"), receiver.got("/layers/200")
    types = {(c.path, event(c).get_type()) for c in receiver.calls}
    assert types == {("/layers/200", "io.repquant.job.layer_completed"), ("/end/200", "io.repquant.job.succeeded")}
    for m in made:
        hooked("DELETE", f"/v1/webhooks/{m['id']}")


def test_a_job_can_have_a_webhook_of_its_own(hooked, receiver):
    secret = "whsec_" + base64.b64encode(os.urandom(24)).decode()
    wish = {"url": f"{receiver.url}/own/200", "events": TERMINAL, "secret": secret}
    body = hooked.inputs("problem model.invalid no bad", webhook=wish)
    answers = [hooked("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": "one"}) for _ in range(2)]
    job, again = (a.json() for a in answers)
    assert job["webhook"]["secret"] == secret and again["webhook"] == {"id": job["webhook"]["id"]} and answers[1].headers["Idempotency-Replayed"] == "true"
    assert hooked.ended(job["id"])["state"] == "failed"
    Webhook(secret).verify(*(c := receiver.got("/own/200"))[0][2:0:-1])
    assert event(c[0]).get_data()["event"]["problem"]["code"] == "model.invalid"
    assert not [h for h in hooked("GET", "/v1/webhooks").json()["data"] if h["job_id"]]
    assert [h["id"] for h in hooked("GET", f"/v1/webhooks?job_id={job['id']}").json()["data"]] == [job["webhook"]["id"]]
    retry = hooked("POST", f"/v1/jobs/{job['id']}/retry").json()            # who asked for the job is told of its second try, too
    hooked.ended(retry["id"])
    assert [event(c).get_subject() for c in receiver.got("/own/200", 2)] == [job["id"], retry["id"]]


def test_a_webhook_is_told_of_a_job_that_was_there_already(hooked, receiver):
    body = hooked.inputs(RUN)
    first = hooked("POST", "/v1/jobs", json=body).json()
    hooked.ended(first["id"])
    answer = hooked("POST", "/v1/jobs", json={**body, "dedupe": "reuse", "webhook": {"url": f"{receiver.url}/twin/200", "events": TERMINAL}})
    assert answer.status_code == 200 and answer.json()["cache"] == "hit"
    call = receiver.got("/twin/200")[0]
    Webhook(answer.json()["webhook"]["secret"]).verify(call.body, call.headers)
    assert event(call).get_type() == "io.repquant.job.succeeded" and event(call).get_subject() == first["id"]


def test_two_secrets_sign_after_a_rotation(hooked, receiver):
    made = hook(hooked, f"{receiver.url}/turn/200")
    rotated = hooked("POST", f"/v1/webhooks/{made['id']}/rotate_secret").json()
    settled(hooked, ping(hooked, made["id"]), "delivered")
    call = receiver.got("/turn/200")[0]
    assert len(call.headers["webhook-signature"].split(" ")) == 2 and made["secret"] != rotated["secret"]
    for secret in (made["secret"], rotated["secret"]):
        Webhook(secret).verify(call.body, call.headers)
    rotated_again = hooked("POST", f"/v1/webhooks/{made['id']}/rotate_secret").json()
    settled(hooked, ping(hooked, made["id"]), "delivered")
    call = receiver.got("/turn/200", 2)[1]
    Webhook(rotated_again["secret"]).verify(call.body, call.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(made["secret"]).verify(call.body, call.headers)
    assert 86000 < (at(rotated_again["old_secret_until"]) - at(made["created_at"])).total_seconds() < 87000
    log = hooked.log.read_text()
    assert not any(s["secret"] in log for s in (made, rotated, rotated_again))
    assert "secret" not in hooked("GET", f"/v1/webhooks/{made['id']}").json()
    hooked("DELETE", f"/v1/webhooks/{made['id']}")


def test_the_documents_examples_verify(hooked, receiver):
    text = (ROOT / "docs" / "webhooks.md").read_text()
    made = hook(hooked, f"{receiver.url}/example/200")
    settled(hooked, ping(hooked, made["id"]), "delivered")
    call = receiver.got("/example/200")[0]
    ours = {}
    exec(re.findall("```python\n(.*?)```", text, re.S)[1], ours)
    assert ours["ours"](made["secret"], call.headers, call.body) and not ours["ours"](made["secret"], call.headers, call.body + b" ")
    shell = 'secret=$1 id=$2 timestamp=$3\ncat > body\n' + re.findall("```sh\n(.*?)```", text, re.S)[-1]
    said = subprocess.run(["sh", "-c", shell, "sh", made["secret"], call.headers["webhook-id"], call.headers["webhook-timestamp"]], input=call.body,
                          capture_output=True, cwd=hooked.folder, check=True).stdout.decode().strip()
    assert f"v1,{said}" == call.headers["webhook-signature"]
    hooked("DELETE", f"/v1/webhooks/{made['id']}")


# ---- receivers that fail ----

def test_a_failed_delivery_is_sent_again_with_the_same_id(hooked, receiver):
    made = hook(hooked, f"{receiver.url}/later/500,503,200", events=["webhook.disabled"])
    path = ping(hooked, made["id"])
    row = settled(hooked, path, "delivered")
    calls = receiver.got("/later/500,503,200", 3)
    assert len({c.headers["webhook-id"] for c in calls}) == 1 and len({c.body for c in calls}) == 1
    for call in calls:
        Webhook(made["secret"]).verify(call.body, call.headers)
    assert [a["status"] for a in row["log"]] == [500, 503, 200] and row["attempts"] == 3
    assert row["log"][0]["problem"]["code"] == "target.failed" and row["log"][2]["problem"] is None
    assert row["log"][0]["response"].startswith("said ??[31m<script>xxx") and len(row["log"][0]["response"]) == 4000
    assert row["event"]["id"] == row["event_id"] == calls[0].headers["webhook-id"]
    again = hooked("POST", f"{path}/redeliver")
    assert again.status_code == 202 and again.headers["Location"] == path
    assert receiver.got("/later/500,503,200", 4)[3].headers["webhook-id"] == row["event_id"]
    until(lambda: hooked("GET", path).json()["attempts"] == 4, what="the fourth attempt")
    hooked("DELETE", f"/v1/webhooks/{made['id']}")
    assert hooked("GET", path).status_code == 404


@pytest.mark.parametrize("answer, low, high", [("500", 1, 1.2), ("503r7", 7, 7.2), ("429r1000000000", 86400, 86400.2), ("500r-5", 1, 1.2), ("500r1e9", 1, 1.2),
                                               ("503rTue*_01_Jan_2080_00:00:00_GMT", 86400, 86400.2)])
def test_retry_after_is_obeyed_within_a_day(make_daemon, folder, receiver, answer, low, high):
    daemon = make_daemon(**options(folder, **{"webhook-retries": "1,1"}))
    row = tried(daemon, ping(daemon, hook(daemon, f"{receiver.url}/when/{answer}")["id"]))
    wait = (at(row["next_attempt_at"]) - at(row["log"][0]["at"])).total_seconds() - row["log"][0]["seconds"]
    assert row["state"] == "pending" and low - 0.01 < wait < high + 0.01


def test_the_schedule_takes_three_days(make_daemon, folder, receiver):
    daemon = make_daemon(**{k: v for k, v in options(folder).items() if k != "webhook-retries"})
    row = tried(daemon, ping(daemon, hook(daemon, f"{receiver.url}/down/500")["id"]))
    wait = (at(row["next_attempt_at"]) - at(row["log"][0]["at"])).total_seconds() - row["log"][0]["seconds"]
    assert 4.99 < wait < 5.51
    said = subprocess.run([os.environ.get("REPQUANTD", ROOT / "build/repquantd"), "--help"], capture_output=True, text=True).stdout
    days = sum(map(int, said.split("REPQUANT_WEBHOOK_RETRIES, default ")[1].split("\n")[0].split(","))) / 86400
    assert 3 < days < 3.3


def test_redirects_are_not_followed(hooked, receiver):
    made = [hook(hooked, f"{receiver.url}/{kind}/{kind}") for kind in ("redirect", "file")]
    for path in [ping(hooked, m["id"]) for m in made]:
        row = settled(hooked, path, "failed")
        assert [a["status"] // 100 for a in row["log"]] == [3] * 4 and "redirects are not followed" in row["log"][0]["problem"]["detail"]
    assert not [c for c in receiver.calls if c.path.startswith("/elsewhere")]
    for m in made:
        hooked("DELETE", f"/v1/webhooks/{m['id']}")


def test_410_disables_the_webhook_and_loses_nothing(hooked, receiver):
    others = hook(hooked, f"{receiver.url}/others/200", events=["webhook.disabled"])
    made = hook(hooked, f"{receiver.url}/gone/410,200", name="gone")
    path = f"/v1/webhooks/{made['id']}"
    first = settled(hooked, ping(hooked, made["id"]), "failed")
    row = hooked("GET", path).json()
    assert not row["enabled"] and "410" in row["disabled_reason"] and len(first["log"]) == 1
    told = event(receiver.got("/others/200")[0])
    assert told.get_type() == "io.repquant.webhook.disabled" and told.get_data()["webhook"]["id"] == made["id"] and told.get_data()["webhook"]["name"] == "gone"
    for refused in (f"{path}/ping", f"{path}/deliveries/{first['id']}/redeliver"):
        assert hooked("POST", refused).status_code == 409
    assert hooked("GET", f"{path}/deliveries").json()["data"][0]["id"] == first["id"]       # still to be seen
    assert hooked("PATCH", path, json={"enabled": True}).json()["enabled"]
    assert hooked("POST", f"{path}/deliveries/{first['id']}/redeliver").status_code == 202
    assert settled(hooked, f"{path}/deliveries/{first['id']}", "delivered")["log"][1]["status"] == 200
    for m in (made, others):
        hooked("DELETE", f"/v1/webhooks/{m['id']}")


def test_a_dead_receiver_is_disabled_and_what_waits_goes_out_when_it_is_back(make_daemon, folder, receiver):
    daemon = make_daemon(**options(folder, **{"webhook-retries": "0,0"}))
    made = hook(daemon, f"{receiver.url}/dead/500", events=TERMINAL)
    path = f"/v1/webhooks/{made['id']}"
    row = settled(daemon, ping(daemon, made["id"]), "failed")
    assert [a["status"] for a in row["log"]] == [500, 500, 500] and not daemon("GET", path).json()["enabled"]
    daemon("PATCH", path, json={"enabled": True})
    receiver.instead["/dead/500"] = "wait"
    waits = ping(daemon, made["id"])
    receiver.got("/dead/500", 4)
    daemon("PATCH", path, json={"enabled": False})
    later = daemon("GET", f"{path}/deliveries?state=pending").json()["data"]
    assert [d["id"] for d in later] == [waits.rsplit("/", 1)[1]]
    receiver.instead["/dead/500"] = "200"
    daemon("PATCH", path, json={"enabled": True, "url": f"{receiver.url}/back/200"})       # a new place, the same delivery
    job = daemon.job(RUN)
    assert settled(daemon, waits, "delivered")
    receiver.release.set()
    assert event(receiver.got("/back/200", 1)[-1]).get_subject() in (job["id"], made["id"])
    until(lambda: job["id"].encode() in b"".join(c.body for c in receiver.calls), what="the job's end")


def test_one_event_that_is_refused_does_not_disable_a_receiver_that_takes_others(hooked, receiver):
    made = hook(hooked, f"{receiver.url}/picky/500,500,200,500,500", events=TERMINAL)
    first = ping(hooked, made["id"])
    tried(hooked, first, 2)
    second = ping(hooked, made["id"])
    states = {settled(hooked, p, "delivered", "failed")["state"] for p in (first, second)}
    assert states == {"delivered", "failed"}
    assert hooked("GET", f"/v1/webhooks/{made['id']}").json()["enabled"]
    hooked("DELETE", f"/v1/webhooks/{made['id']}")


@pytest.mark.parametrize("kind", ["trickle", "endless", "head", "wait"])
def test_an_answer_that_does_not_end_ends_the_attempt(hooked, receiver, kind):
    made = hook(hooked, f"{receiver.url}/{kind}/{kind}")
    row = tried(hooked, ping(hooked, made["id"]))
    assert row["log"][0]["problem"]["code"] == "target.failed" and row["log"][0]["seconds"] < 3
    assert receiver.sent < 40 << 20                    # 64 KiB are read; the rest is what sockets and TLS hold
    hooked("DELETE", f"/v1/webhooks/{made['id']}")


def test_a_coding_of_an_answer_nobody_reads_is_no_failure(hooked, receiver):
    made = hook(hooked, f"{receiver.url}/zip/gzip")
    assert settled(hooked, ping(hooked, made["id"]), "delivered")["log"][0]["status"] == 200
    hooked("DELETE", f"/v1/webhooks/{made['id']}")


def test_a_certificate_that_is_not_trusted_is_no_receiver(make_daemon, folder, receiver):
    daemon = make_daemon(**{k: v for k, v in options(folder).items() if k != "outbound-ca"})
    row = tried(daemon, ping(daemon, hook(daemon, f"{receiver.url}/x/200")["id"]))
    assert row["log"][0]["status"] is None and row["log"][0]["problem"]["code"] == "target.failed" and not receiver.calls


def test_an_authority_of_ones_own_is_trusted_instead_of_the_systems(make_daemon, folder, tmp_path_factory, receiver, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("authority")
    certificate(elsewhere)
    for name, value in system_trusts(elsewhere, folder / "cert").items():
        monkeypatch.setenv(name, value)
    system = {k: v for k, v in options(folder).items() if k != "outbound-ca"}
    state = {}
    for ca in ({}, {"outbound-ca": str(elsewhere / "cert")}):
        daemon = make_daemon(**system, **ca)
        row = tried(daemon, ping(daemon, hook(daemon, f"{receiver.url}/whom{len(ca)}/200")["id"]))
        state[len(ca)] = row["log"][0]["status"]
    assert state == {0: 200, 1: None} and len(receiver.calls) == 1


def test_receivers_that_hang_do_not_hold_up_those_that_answer(make_daemon, folder, receiver):
    daemon = make_daemon(**options(folder, **{"webhook-timeout": "15", "webhook-retries": "60,60"}))
    mutes = [Mute(hang_up=i % 3 == 2) for i in range(12)]
    good = hook(daemon, f"{receiver.url}/good/200", events=TERMINAL)
    settled(daemon, ping(daemon, good["id"]), "delivered")          # a receiver that is known to answer
    bad = [hook(daemon, f"https://localhost:{m.port}/hang", events=TERMINAL) for m in mutes]
    for _ in range(3):
        for b in bad:
            ping(daemon, b["id"])
    until(lambda: sum(len(m.connections) for m in mutes) >= 4, what="hanging attempts")
    late = []
    for _ in range(20):
        row = settled(daemon, ping(daemon, good["id"]), "delivered", seconds=5)
        late.append((at(row["ended_at"]) - at(row["created_at"])).total_seconds())
    assert max(late) < (8 if SANITIZER else 4), late            # they hang for 15 seconds, four at a time
    waiting = sum(daemon("GET", f"/v1/webhooks/{b['id']}").json()["pending"] for b in bad)
    assert waiting == 36                                            # and none of theirs is lost
    metrics = daemon("GET", "/metrics").text
    assert 'repquant_webhook_deliveries_total{result="delivered"} 21' in metrics and "repquant_webhook_pending 36" in metrics
    for m in mutes:
        m.end()


# ---- where it may not go ----

@pytest.mark.parametrize("url", [
    "http://hooks.example/x", "https://127.1/x", "https://2130706433/x", "https://0x7f.1/x", "https://[::1]/x", "https://[::ffff:127.0.0.1]/x", "https://[64:ff9b::a9fe:a9fe]/x",
    "https://[2002:7f00:1::]/x", "https://169.254.169.254/latest", "https://100.64.0.1/x", "https://0.0.0.0/x", "https://[fe80::1%25lo]/x", "https://10.1.2.3/x",
    "file:///etc/passwd", "gopher://hooks.example/x", "https://u:p@hooks.example/x", "https://hooks.example:22/x", "https://hooks.example:80/x", "https://", "x"])
def test_a_url_that_may_not_be_called_is_refused_at_once(daemon, url):
    for answer in (daemon("POST", "/v1/webhooks", json={"url": url}), daemon("POST", "/v1/jobs", json=daemon.inputs(webhook={"url": url}))):
        assert answer.status_code == 422 and answer.json()["code"] == "target.forbidden" and answer.json()["pointer"].endswith("/url"), answer.text


def test_a_name_of_a_forbidden_address_gets_no_packet(daemon):
    with_listener = Mute()
    made = hook(daemon, f"https://localhost:{with_listener.port}/x")
    row = settled(daemon, ping(daemon, made["id"]), "blocked")
    assert row["log"][0]["problem"]["code"] == "target.forbidden" and len(row["log"]) == 1 and row["next_attempt_at"] is None
    daemon("DELETE", f"/v1/webhooks/{made['id']}")
    assert not with_listener.connections
    with_listener.end()


def test_a_name_that_changes_its_mind_gets_no_packet(make_daemon, folder, tmp_path, monkeypatch):
    """127.0.0.2 stands for a public address, 127.0.0.1 for one of the inside."""
    library, answers = preloaded(tmp_path, "tools/rebind.c"), tmp_path / "answers"
    outside = Receiver(folder, "127.0.0.2")
    inside = Mute(address="127.0.0.1", port=outside.server_port)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("REBIND", str(answers))
    monkeypatch.setenv("ASAN_OPTIONS", os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0")
    daemon = make_daemon(**options(folder, **{"outbound-private": "127.0.0.2/32"}))
    monkeypatch.delenv("LD_PRELOAD")
    made = hook(daemon, f"https://moving.test:{outside.server_port}/m/200")
    for addresses, state in (("127.0.0.2", "delivered"), ("127.0.0.1", "blocked"), ("127.0.0.1\n127.0.0.2", "blocked"), ("127.0.0.2", "delivered")):
        answers.write_text(addresses + "\n")
        assert settled(daemon, ping(daemon, made["id"]), "delivered", "blocked", "failed")["state"] == state, addresses
    assert not inside.connections and len(outside.calls) == 2
    inside.end()
    outside.end()


# ---- the end of the daemon ----

def kill(daemon):
    daemon.process.kill()
    daemon.process.wait()
    (daemon.folder / "port").unlink(missing_ok=True)       # or start() believes it


def test_a_delivery_under_way_when_the_daemon_is_killed_is_sent_again(make_daemon, folder, receiver):
    daemon = make_daemon(**options(folder, **{"webhook-timeout": "30"}))
    made = hook(daemon, f"{receiver.url}/held/wait,200")
    path = ping(daemon, made["id"])
    receiver.got("/held/wait,200")
    kill(daemon)
    receiver.release.set()
    daemon.start()
    assert settled(daemon, path, "delivered")["attempts"] == 1
    assert len({c.headers["webhook-id"] for c in receiver.got("/held/wait,200", 2)}) == 1


def test_no_end_of_a_job_is_lost_however_often_the_daemon_is_killed(make_daemon, folder, receiver):
    daemon = make_daemon(**options(folder))
    hook(daemon, f"{receiver.url}/ends/500,200", events=TERMINAL)
    jobs = []
    for round_ in range(3 if SANITIZER else 6):
        body = daemon.inputs(RUN)
        jobs += [daemon("POST", "/v1/jobs", json=body).json()["id"] for _ in range(3)]
        time.sleep(0.05 * round_)                      # somewhere in the middle of it
        kill(daemon)
        daemon.start()
    ends = {j: daemon.ended(j, 60)["state"] for j in jobs}
    until(lambda: {event(c).get_subject() for c in receiver.calls} == set(jobs), 30, "an event of every job's end")
    by_job = {}
    for call in receiver.calls:
        e = event(call)
        assert e.get_type() == f"io.repquant.job.{ends[e.get_subject()]}"
        by_job.setdefault(e.get_subject(), set()).add(call.headers["webhook-id"])
    assert all(len(ids) == 1 for ids in by_job.values())      # one event each, however often it was sent


def test_what_is_due_is_sent_before_the_daemon_goes(make_daemon, folder, receiver):
    daemon = make_daemon(**options(folder, **{"webhook-timeout": "30"}))
    made = hook(daemon, f"{receiver.url}/bye/wait,200", events=TERMINAL)
    paths = [ping(daemon, made["id"]) for _ in range(2)]
    receiver.got("/bye/wait,200")
    threading.Timer(0.5, receiver.release.set).start()      # answered while the daemon is stopping; then the other one is due
    assert daemon.stop() == 0
    assert len(receiver.calls) == 2
    daemon.start()
    rows = [settled(daemon, p, "delivered") for p in paths]
    assert [r["attempts"] for r in rows] == [1, 1] and len(receiver.calls) == 2


# ---- who may, and how much ----

def test_a_team_has_as_many_webhooks_as_it_may(make_daemon, folder):
    daemon = make_daemon(webhooks=2)
    made = [hook(daemon, "https://hooks.example/x") for _ in range(2)]
    answer = daemon("POST", "/v1/webhooks", json={"url": "https://hooks.example/x"})
    assert answer.status_code == 403 and answer.json()["code"] == "quota.exceeded" and "2 webhooks" in answer.json()["detail"]
    assert daemon("DELETE", f"/v1/webhooks/{made[0]['id']}").status_code == 204
    hook(daemon, "https://hooks.example/x")
    body = {**daemon.inputs(RUN), "dedupe": "reuse", "webhook": {"url": "https://hooks.example/x"}}
    answers = [daemon("POST", "/v1/jobs", json=body) for _ in range(9)]
    assert all(a.status_code in (200, 202) for a in answers[:8]) and answers[8].json()["code"] == "quota.exceeded"
    rows = daemon("GET", "/v1/jobs").json()["data"]
    assert len(rows) == 1 and len(daemon("GET", f"/v1/webhooks?job_id={rows[0]['id']}").json()["data"]) == 8


def test_a_team_is_deleted_once_it_has_no_webhook(daemon):
    assert daemon("POST", "/v1/teams", json={"name": "hooked"}).status_code == 201
    token = daemon("POST", "/v1/tokens", json={"name": "t", "role": "team_admin", "team": "hooked"}).json()
    as_team = {"Authorization": f"Bearer {token['token']}"}
    made = requests.post(f"{daemon.url}/v1/webhooks", json={"url": "https://hooks.example/x"}, headers=as_team).json()
    assert made["created_by"] == token["id"]
    daemon("DELETE", f"/v1/tokens/{token['id']}?team=hooked")
    answer = daemon("DELETE", "/v1/teams/hooked")
    assert answer.status_code == 409 and "webhooks" in answer.json()["detail"]
    token = daemon("POST", "/v1/tokens", json={"name": "t", "role": "team_admin", "team": "hooked"}).json()
    as_team = {"Authorization": f"Bearer {token['token']}"}
    assert requests.delete(f"{daemon.url}/v1/webhooks/{made['id']}", headers=as_team).status_code == 204
    daemon("DELETE", f"/v1/tokens/{token['id']}?team=hooked")
    assert daemon("DELETE", "/v1/teams/hooked").status_code == 204


@pytest.mark.parametrize("change, pointer", [({"events": ["ping"]}, "/events/0"), ({"events": ["job.failed", "job.failed"]}, "/events/1"), ({"name": "\x01"}, "/name"),
                                             ({"enabled": "no"}, "/enabled"), ({"secret": "whsec_x"}, "/secret"), ({"url": 7}, "/url")])
def test_a_change_that_is_none_is_refused(daemon, change, pointer):
    made = hook(daemon, "https://hooks.example/x", name="n")
    answer = daemon("PATCH", f"/v1/webhooks/{made['id']}", json=change)
    assert answer.status_code == 400 and answer.json()["pointer"] == pointer, answer.text
    row = daemon("GET", f"/v1/webhooks/{made['id']}").json()
    assert {k: row[k] for k in row} == {k: made[k] for k in row}
    daemon("DELETE", f"/v1/webhooks/{made['id']}")
