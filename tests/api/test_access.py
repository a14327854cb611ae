"""Quotas, rates, the audit log, browser sessions, proxies and TLS, as clients meet them."""
import concurrent.futures
import hashlib
import http.client
import json
import re
import socket
import sqlite3
import subprocess
import time

import pytest
import requests
from conftest import REPQUANTD, until


def make_team(daemon, name, **quota):
    """A team and the token of one of its members, as a function that asks with it."""
    assert daemon("POST", "/v1/teams", json={"name": name, "quota": quota}).status_code == 201
    return asker(daemon, make_token(daemon, team=name, role="member")["token"])


def make_token(daemon, **wish):
    answer = daemon("POST", "/v1/tokens", json={"name": "test", **wish})
    assert answer.status_code == 201, answer.text
    return answer.json()


def asker(daemon, token, **fields):
    def ask(method, path, headers=None, **more):
        more.setdefault("timeout", 30)
        own = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.request(method, daemon.url + path, headers={**own, **fields, **(headers or {})}, **more)
    return ask


def inputs(ask, quantize):
    model = ask("PUT", "/v1/models?name=m", data=f"#quantize {quantize}\n".encode())
    data = ask("PUT", "/v1/datasets?name=d", data=b'#inspect result result.json {"format":"npz","samples":4}\n')
    assert model.status_code == data.status_code == 201, model.text + data.text
    return {"type": "quantize", "model_id": model.json()["id"], "dataset_id": data.json()["id"], "recipe": "minmax-w8a8"}


def problem(answer, status, code, where=None):
    document = answer.json()
    assert (answer.status_code, document["code"]) == (status, code), answer.text
    assert where is None or document.get("where", document.get("pointer")) == where, answer.text
    return document


# ---- quotas ----

def test_of_many_jobs_at_once_only_so_many_are_queued(make_daemon):
    daemon = make_daemon()
    ask = make_team(daemon, "red", max_running=0, max_queued=3)
    body = inputs(ask, "result model.onnx M")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask("POST", "/v1/jobs", json=body), range(24)))
    assert sorted(a.status_code for a in answers) == [202] * 3 + [403] * 21, [a.text for a in answers if a.status_code not in (202, 403)]
    refused = next(a for a in answers if a.status_code == 403)
    assert "cancel one" in problem(refused, 403, "quota.exceeded", "max_queued")["detail"]
    queued = [a.json()["id"] for a in answers if a.status_code == 202]
    assert ask("GET", "/v1/teams/red").json()["used"]["queued"] == 3
    assert ask("POST", f"/v1/jobs/{queued[0]}/cancel").status_code == 202
    assert ask("POST", f"/v1/jobs/{queued[0]}/retry").status_code == 202      # the place is free again
    problem(ask("POST", f"/v1/jobs/{queued[0]}/retry"), 403, "quota.exceeded")
    assert daemon("PUT", "/v1/teams/red/quota", json={}).status_code == 200   # and what waits may run at once
    for job in queued[1:]:
        assert until(lambda: (j := ask("GET", f"/v1/jobs/{job}").json())["state"] == "succeeded" and j, what="the job's end")


def test_a_team_runs_no_more_jobs_than_it_may_and_others_pass_it(make_daemon):
    daemon = make_daemon(workers="3")
    red, blue = make_team(daemon, "red", max_running=1), make_team(daemon, "blue")
    body = inputs(red, "stage quantizing;hang")
    jobs = [red("POST", "/v1/jobs", json=body).json()["id"] for _ in range(3)]
    quick = blue("POST", "/v1/jobs", json=inputs(blue, "result model.onnx M")).json()["id"]
    until(lambda: blue("GET", f"/v1/jobs/{quick}").json()["state"] == "succeeded", what="the other team's job")
    states = [red("GET", f"/v1/jobs/{j}").json()["state"] for j in jobs]
    assert states == ["running", "queued", "queued"]
    assert red("GET", "/v1/teams/red").json()["used"] | {"bytes": 0} == {"running": 1, "queued": 2, "bytes": 0}
    for n, job in enumerate(jobs):              # each gets its turn when the one before has ended
        until(lambda: red("GET", f"/v1/jobs/{job}").json()["state"] == "running", what="the job running")
        assert [red("GET", f"/v1/jobs/{j}").json()["state"] for j in jobs[n + 1:]] == ["queued"] * (2 - n)
        assert red("POST", f"/v1/jobs/{job}/cancel").status_code == 202
        until(lambda: red("GET", f"/v1/jobs/{job}").json()["state"] == "canceled", what="the job's end")


def test_bytes_are_refused_before_they_are_sent_and_never_by_half(make_daemon):
    daemon = make_daemon()
    ask = make_team(daemon, "red", max_bytes=250_000)

    def put(seed, chunked=False):
        data = hashlib.sha256(str(seed).encode()).digest() * 3125           # 100,000 bytes
        digest = hashlib.sha256(data).hexdigest()
        return ask("PUT", f"/v1/blobs/sha256:{digest}", data=iter([data]) if chunked else data)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(put, range(8)))
    assert sorted(a.status_code for a in answers) == [201] * 2 + [403] * 6
    for answer in answers:
        if answer.status_code == 403:
            assert "delete" in problem(answer, 403, "quota.exceeded", "max_bytes")["detail"]
    until(lambda: ask("GET", "/v1/teams/red").json()["used"]["bytes"] == 200_000, what="the return of what was refused")
    assert put([a.status_code for a in answers].index(201)).status_code == 200      # what the team has costs nothing more
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
    connection.putrequest("PUT", "/v1/models?name=x")
    connection.putheader("Authorization", f"Bearer {make_token(daemon, team='red', role='member')['token']}")
    connection.putheader("Content-Length", "60000")
    connection.endheaders()                     # the answer comes although no byte of the body does
    assert connection.getresponse().status == 403
    connection.close()
    until(lambda: not daemon.leftovers(), what="the end of what was refused")


def test_bodies_of_unknown_length_take_their_steps_of_the_quota(make_daemon):
    """A step may be all that is left, so of many at the same moment fewer may end than there is room for; never none, and never more."""
    daemon = make_daemon()
    ask = make_team(daemon, "red", max_bytes=250_000)

    def put(seed):
        data = hashlib.sha256(str(seed).encode()).digest() * 3125
        return ask("PUT", f"/v1/blobs/sha256:{hashlib.sha256(data).hexdigest()}", data=iter([data]) if seed % 2 else data).status_code

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(put, range(8)))
    assert set(codes) == {201, 403} and codes.count(201) in (1, 2)
    until(lambda: ask("GET", "/v1/teams/red").json()["used"]["bytes"] == 100_000 * codes.count(201), what="the return of what was refused")
    assert put(9 if codes.count(201) == 1 else codes.index(201)) in (200, 201)      # alone it may have all that is left
    until(lambda: not daemon.leftovers(), what="the end of what was refused")


def test_slow_senders_together_reserve_no_more_than_the_quota(make_daemon):
    daemon = make_daemon()
    used = lambda: daemon("GET", "/v1/teams/red").json()["used"]["bytes"]
    make_team(daemon, "red", max_bytes=5_000_000)
    token = make_token(daemon, team="red", role="member")["token"]
    head = f"Host: localhost\r\nAuthorization: Bearer {token}\r\n"
    tus = "POST /v1/uploads HTTP/1.1\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 4900000\r\nContent-Type: application/offset+octet-stream\r\n"
    put = "PUT /v1/models?name=x HTTP/1.1\r\n"
    senders = []
    for line in [tus, put] * 4:
        senders.append(socket.create_connection(("127.0.0.1", daemon.port), timeout=10))
        senders[-1].sendall(f"{line}{head}Content-Length: 4900000\r\n\r\n".encode() + b"x" * 1000)
        until(lambda: used() == 4_900_000, what="the place of the first")
    for refused in senders[1:]:
        assert refused.recv(12) == b"HTTP/1.1 403"
    files = [p for p in (daemon.data / "blobs").iterdir() if p.is_file()]
    assert sum(p.stat().st_blocks * 512 for p in files) < 5_500_000
    for sender in senders:
        sender.close()
    until(lambda: used() == 0, what="the end of what was held")


def test_an_upload_in_parts_has_its_place_from_its_beginning(make_daemon):
    """Of many at the same moment as many begin as can end."""
    daemon = make_daemon()
    ask = make_team(daemon, "red", max_bytes=250_000)
    tus = {"Tus-Resumable": "1.0.0"}

    def begin(_):
        return ask("POST", "/v1/uploads", headers={**tus, "Upload-Length": "100000"})

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(begin, range(8)))
    assert sorted(a.status_code for a in answers) == [201] * 2 + [403] * 6
    problem(next(a for a in answers if a.status_code == 403), 403, "quota.exceeded", "max_bytes")
    assert ask("GET", "/v1/teams/red").json()["used"]["bytes"] == 200_000
    first, second = [a.headers["Location"] for a in answers if a.status_code == 201]
    part = {**tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert ask("PATCH", first, headers=part, data=b"1" * 100_000).status_code == 204
    assert ask("GET", "/v1/teams/red").json()["used"]["bytes"] == 200_000      # counted once
    assert daemon("DELETE", "/v1/teams/red").status_code == 409
    assert ask("DELETE", second, headers=tus).status_code == 204
    assert ask("GET", "/v1/teams/red").json()["used"]["bytes"] == 100_000
    assert begin(0).status_code == 201 and begin(0).status_code == 403


def test_a_job_that_was_accepted_keeps_its_results_over_the_quota(make_daemon):
    daemon = make_daemon()
    ask = make_team(daemon, "red", max_bytes=1000)
    small = inputs(ask, "result model.onnx M")
    used = ask("GET", "/v1/teams/red").json()["used"]["bytes"]
    assert daemon("PUT", "/v1/teams/red/quota", json={"max_bytes": used + 1}).status_code == 200
    job = ask("POST", "/v1/jobs", json=small).json()
    until(lambda: (j := ask("GET", f"/v1/jobs/{job['id']}").json())["state"] == "succeeded" and j, what="the job's end")
    problem(ask("POST", "/v1/jobs", json=small), 403, "quota.exceeded", "max_bytes")


# ---- rates ----

def test_a_token_that_asks_too_often_waits_and_no_other_does(make_daemon):
    daemon = make_daemon(rate="1", rate_burst="10")
    ask = asker(daemon, make_token(daemon, role="viewer")["token"])
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {make_token(daemon, role='viewer')['token']}"
        answers = [session.get(daemon.url + "/v1/queue") for _ in range(60)]
    refused = [a for a in answers if a.status_code == 429]
    assert answers[0].headers["RateLimit-Policy"] == '"token";q=10;w=10'
    assert answers[0].headers["RateLimit"] == '"token";r=9;t=1'
    assert [a.status_code for a in answers[:10]] == [200] * 10 and len(refused) >= 25
    document = problem(refused[0], 429, "quota.rate")
    assert document["retryable"] and refused[0].headers["Retry-After"] == "1"
    assert ask("GET", "/v1/queue").status_code == 200
    assert daemon("GET", "/healthz").status_code == 200
    time.sleep(int(refused[-1].headers["Retry-After"]))         # what the answer says is enough
    assert session.get(daemon.url + "/v1/queue", headers=refused[0].request.headers).status_code == 200


def test_an_address_that_guesses_tokens_waits_and_valid_ones_pass(make_daemon):
    daemon = make_daemon(guesses="1")
    with requests.Session() as session:
        answers = [session.get(daemon.url + "/v1/queue", headers={"Authorization": f"Bearer rq_{n:043}"}) for n in range(150)]
    assert {a.status_code for a in answers[:10]} == {401} and answers[-1].status_code == 429
    assert int(answers[-1].headers["Retry-After"]) == 1
    assert daemon("GET", "/v1/queue").status_code == 200


# ---- the audit log ----

FIELDS = ("prev", "seq", "at", "request", "team", "token", "session", "peer", "method", "action", "target", "status", "code")


def export(ask, query=""):
    """All rows, page by page."""
    rows, path = [], f"/v1/audit?limit=3{query}"
    while path:
        answer = ask("GET", path)
        assert answer.status_code == 200 and answer.headers["Content-Type"] == "application/x-ndjson", answer.text
        rows += [json.loads(line) for line in answer.text.splitlines()]
        path = answer.links.get("next", {}).get("url")
    return rows


def hash_of(row):
    return hashlib.sha256("\n".join("" if row[f] is None else str(row[f]) for f in FIELDS).encode()).hexdigest()


def check_chain(rows, prev="", first=1):
    for n, row in enumerate(rows, first):
        assert row["seq"] == n and (row["prev"] or "") == prev and row["hash"] == hash_of(row)
        prev = row["hash"]


def test_what_was_done_and_what_was_refused_is_in_the_log(make_daemon):
    daemon = make_daemon()
    ask = make_team(daemon, "red")
    model = ask("PUT", "/v1/models?name=x", data=b"#inspect result result.json {}\n").json()["id"]
    assert ask("GET", f"/v1/models/{model}").status_code == 200
    assert ask("DELETE", f"/v1/models/{model}").status_code == 204
    assert ask("DELETE", f"/v1/models/{model}").status_code == 404
    assert ask("POST", "/v1/teams", json={"name": "x"}).status_code == 403
    assert asker(daemon, "")("GET", "/v1/jobs").status_code == 401
    assert daemon("GET", "/", headers={"Host": "evil.example"}).status_code == 421
    rows = export(daemon)
    check_chain(rows)
    told = [(r["method"], r["action"], r["target"], r["status"], r["code"], r["team"]) for r in rows]
    assert told[:8] == [
        ("POST", "/v1/teams", "/v1/teams", 201, None, "local"),
        ("POST", "/v1/tokens", "/v1/tokens", 201, None, "local"),
        ("PUT", "/v1/models", "/v1/models", 201, None, "red"),
        ("DELETE", "/v1/models/{model}", f"/v1/models/{model}", 204, None, "red"),
        ("DELETE", "/v1/models/{model}", f"/v1/models/{model}", 404, "resource.not_found", "red"),
        ("POST", "/v1/teams", "/v1/teams", 403, "auth.forbidden", "red"),
        ("GET", "/v1/jobs", "/v1/jobs", 401, "auth.required", None),
        ("GET", None, "/", 421, "auth.host", None)]
    assert told[8] == ("GET", "/v1/audit", "/v1/audit", 200, None, "local")          # the export is in it, too
    assert all(r["peer"] == "127.0.0.1" and re.fullmatch("req_[0-9a-f]{16}", r["request"]) for r in rows)
    later = export(daemon)
    assert export(daemon, "&order=desc")[-len(later):] == later[::-1]
    assert daemon("GET", "/v1/audit?order=up").status_code == 400
    text = daemon("GET", "/v1/audit").text
    assert daemon.token not in text and "rq_" not in text


def test_a_teams_administrator_reads_the_teams_rows_alone(make_daemon):
    daemon = make_daemon()
    make_team(daemon, "red"), make_team(daemon, "blue")
    ask = asker(daemon, make_token(daemon, team="red", role="team_admin")["token"])
    token = ask("POST", "/v1/tokens", json={"name": "x", "role": "viewer"}).json()
    assert {r["team"] for r in export(ask)} == {"red"}
    assert ask("GET", "/v1/audit?team=blue").status_code == ask("GET", "/v1/audit?team=none").status_code == 404
    assert {r["team"] for r in export(daemon, "&team=red")} == {"red"}
    rows = export(ask)
    assert export(ask, "&order=desc")[-len(rows):] == rows[::-1]
    assert export(daemon, f"&actor={token['id']}") == []
    assert ask("GET", "/v1/audit?actor=' OR 1=1").status_code == 400


def test_a_row_can_be_neither_changed_nor_removed(make_daemon):
    daemon = make_daemon()
    make_team(daemon, "red")
    assert daemon.stop() == 0
    with sqlite3.connect(daemon.data / "repquant.db") as db:
        assert db.execute("SELECT count(*) FROM audit").fetchone()[0] == 2
        for statement in ("UPDATE audit SET status = 200", "DELETE FROM audit", "REPLACE INTO audit SELECT * FROM audit"):
            with pytest.raises(sqlite3.DatabaseError, match="append-only"):
                db.execute("PRAGMA recursive_triggers = ON")
                db.execute(statement)
    daemon.start()
    check_chain(export(daemon))


def add_old_rows(database, ages):
    """Rows as the daemon would have written them so many days ago; the last hash."""
    now, prev = time.time() * 1000 // 1, ""
    with sqlite3.connect(database) as db:
        assert db.execute("SELECT count(*) FROM audit").fetchone() == (0,)
        for seq, days in enumerate(ages, 1):
            at = int(now - days * 86_400_000)
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 1000)) + f".{at % 1000:03}Z"
            row = dict(dict.fromkeys(FIELDS, ""), seq=seq, at=text, method="PUT", action="/v1/models", target=f"/v1/models/{days}", status=201, prev=prev)
            prev = hash_of(row)
            values = {**row, "at": at * 1000, "hash": prev}
            db.execute(f"INSERT INTO audit ({','.join(values)}) VALUES ({','.join('?' * len(values))})", list(values.values()))


def test_rows_are_kept_for_ever_or_as_long_as_the_operator_says(make_daemon):
    daemon = make_daemon()
    assert daemon.stop() == 0
    add_old_rows(daemon.data / "repquant.db", [400, 300, *[40] * 600, 31.1, 29, 2])
    daemon.start()
    rows = [json.loads(line) for line in daemon("GET", "/v1/audit?limit=5000").text.splitlines()]
    check_chain(rows)
    assert len(rows) == 605, "by default for ever"
    assert daemon.stop() == 0
    daemon.options["keep-audit"] = "30"
    for _ in range(2):
        daemon.start()
        until(lambda: "603 rows of the audit log" in daemon.log.read_text(), what="the sweep")
        kept = export(daemon)
        check_chain(kept, rows[602]["hash"], 604)
        assert kept[:2] == rows[603:605]
        told = [(r["target"], r["method"], r["team"], r["status"]) for r in kept if r["action"] == "audit.forgotten"]
        assert told == [("603", None, None, 0)], "said once, in a row that is hashed like all others"
        assert daemon.stop() == 0
        with sqlite3.connect(daemon.data / "repquant.db") as db:
            assert db.execute("SELECT count(*) FROM audit WHERE action = 'audit.forgotten'").fetchone() == (1,), "of the second sweep, too"
            with pytest.raises(sqlite3.DatabaseError, match="append-only"):
                db.execute("DELETE FROM audit WHERE seq = 604")


def test_a_database_with_code_of_somebody_else_is_not_opened(make_daemon):
    daemon = make_daemon()
    assert daemon.stop() == 0
    with sqlite3.connect(daemon.data / "repquant.db") as db:
        db.execute("CREATE TRIGGER mine AFTER INSERT ON jobs BEGIN DELETE FROM tokens; END")
    ended = subprocess.run([REPQUANTD, f"--data={daemon.data}", "--port=0", f"--repquant={daemon.options['repquant']}"],
                           capture_output=True, text=True, timeout=20)
    assert ended.returncode != 0 and "trigger" in ended.stderr


def test_knocking_does_not_fill_the_log(make_daemon):
    daemon = make_daemon()
    ask = asker(daemon, "")
    with requests.Session() as session:
        for _ in range(400):
            assert session.get(daemon.url + "/v1/jobs").status_code == 401
    rows = export(daemon)
    check_chain(rows)
    assert len(rows) < 150
    dropped = [r for r in rows if r["action"] == "audit.dropped"]
    refused = sum(r["status"] == 401 for r in rows)
    assert refused + sum(int(r["code"].split()[0]) for r in dropped) == 400
    assert ask("GET", "/healthz").status_code == 200


# ---- browser sessions ----

def log_in(daemon, token):
    answer = asker(daemon, token)("POST", "/v1/session")
    assert answer.status_code == 201, answer.text
    cookie = answer.headers["Set-Cookie"]
    secret = re.fullmatch(r"__Host-repquant=(rs_[0-9A-Za-z]{43}); Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=\d+", cookie)[1]
    return answer.json(), f"__Host-repquant={secret}"


def test_a_browser_logs_in_acts_and_logs_out(make_daemon):
    daemon = make_daemon()
    token = make_token(daemon, role="member")
    session, cookie = log_in(daemon, token["token"])
    page = asker(daemon, None, Cookie=f"other=1; {cookie}; more=2")
    own = {"Sec-Fetch-Site": "same-origin", "X-Repquant-Csrf": session["csrf_token"]}
    assert page("GET", "/v1/whoami").json()["token_id"] == token["id"]
    assert page("GET", "/v1/session").json()["csrf_token"] == session["csrf_token"]
    assert page("PUT", "/v1/models?name=x", headers=own, data=b"#inspect result result.json {}\n").status_code == 201
    assert [s["id"] for s in page("GET", "/v1/sessions").json()["data"]] == [session["id"]]
    answer = page("DELETE", "/v1/session", headers=own)
    assert answer.status_code == 204 and "Max-Age=0" in answer.headers["Set-Cookie"]
    problem(page("GET", "/v1/whoami"), 401, "auth.required")
    assert asker(daemon, token["token"])("GET", "/v1/whoami").status_code == 200
    rows = [json.loads(line) for line in daemon("GET", "/v1/audit").text.splitlines()]
    assert [r["session"] for r in rows if r["method"] == "PUT"] == [session["id"]]


@pytest.mark.parametrize("method, path", [("POST", "/v1/jobs"), ("PUT", "/v1/models?name=x"), ("DELETE", "/v1/models/x"), ("DELETE", "/v1/session")])
def test_a_cookie_alone_changes_nothing(daemon, method, path):
    session, cookie = log_in(daemon, daemon.token)
    page, token = asker(daemon, None, Cookie=cookie), session["csrf_token"]
    body = {"json": {}} if method == "POST" else {"data": b"x"} if method == "PUT" else {}
    same = {"Sec-Fetch-Site": "same-origin"}
    for headers in ({}, {"X-Repquant-Csrf": token}, same, {**same, "X-Repquant-Csrf": token[:-1] + ("0" if token[-1] != "0" else "1")},
                    {"Sec-Fetch-Site": "none", "X-Repquant-Csrf": token}, {"Sec-Fetch-Site": "same-site", "X-Repquant-Csrf": token},
                    {"Sec-Fetch-Site": "cross-site", "X-Repquant-Csrf": token}, {"Origin": "http://evil.example", "X-Repquant-Csrf": token},
                    {"Origin": "null", "X-Repquant-Csrf": token}, {**same, "X-Repquant-Csrf": ""}):
        problem(page(method, path, headers=headers, **body), 403, "auth.forbidden")
    allowed = page(method, path, headers={"Origin": daemon.url, "X-Repquant-Csrf": token}, **body)
    assert allowed.status_code not in (401, 403), allowed.text


def test_what_is_no_session_is_nobody(daemon):
    session, cookie = log_in(daemon, daemon.token)
    for bad in (cookie[:-1], cookie + "0", cookie.replace("__Host-", ""), cookie.replace("rs_", "rq_"), "__Host-repquant=", "__Host-repquant",
                f"x{cookie}", f"__Host-repquant={daemon.token}", "__Host-repquant=' OR 1=1"):
        problem(asker(daemon, None, Cookie=bad)("GET", "/v1/whoami"), 401, "auth.required")
    problem(asker(daemon, session["id"])("GET", "/v1/whoami"), 401, "auth.required")
    problem(asker(daemon, cookie.split("=")[1])("GET", "/v1/whoami"), 401, "auth.required")         # as a bearer it is nothing
    own = {"Sec-Fetch-Site": "same-origin", "X-Repquant-Csrf": session["csrf_token"]}
    problem(asker(daemon, None, Cookie=cookie)("POST", "/v1/session", headers=own), 403, "auth.forbidden")   # no session from a session


def test_a_session_ends_with_its_token_and_when_somebody_ends_it(make_daemon):
    daemon = make_daemon()
    member, other = make_token(daemon, role="member"), make_token(daemon, role="member")
    (mine, cookie), (second, cookie2) = log_in(daemon, member["token"]), log_in(daemon, member["token"])
    (theirs, cookie3) = log_in(daemon, other["token"])
    ask = asker(daemon, member["token"])
    assert {s["id"] for s in ask("GET", "/v1/sessions").json()["data"]} == {mine["id"], second["id"]}
    assert ask("DELETE", f"/v1/sessions/{theirs['id']}").status_code == 404         # another token's: an administrator's business
    assert ask("DELETE", f"/v1/sessions/{second['id']}").status_code == 204
    assert asker(daemon, None, Cookie=cookie2)("GET", "/v1/whoami").status_code == 401
    assert {s["id"] for s in daemon("GET", "/v1/sessions").json()["data"]} == {mine["id"], theirs["id"]}
    assert daemon("DELETE", f"/v1/tokens/{member['id']}").status_code == 204
    assert asker(daemon, None, Cookie=cookie)("GET", "/v1/whoami").status_code == 401
    assert daemon("DELETE", f"/v1/sessions/{theirs['id']}").status_code == 204
    assert asker(daemon, None, Cookie=cookie3)("GET", "/v1/whoami").status_code == 401
    assert daemon("GET", "/v1/sessions").json()["data"] == []


@pytest.mark.parametrize("change", ["last_used_at = last_used_at - 8 * 3600 * 1000000", "expires_at = created_at"])
def test_a_session_that_is_idle_or_old_has_ended(make_daemon, change):
    daemon = make_daemon()
    session, cookie = log_in(daemon, daemon.token)
    assert daemon.stop() == 0
    with sqlite3.connect(daemon.data / "repquant.db") as db:
        row = db.execute("SELECT hash, expires_at - created_at FROM sessions").fetchone()
        assert row == (hashlib.sha256(cookie.split("=")[1].encode()).hexdigest(), 7 * 24 * 3600 * 1000000)
        db.execute(f"UPDATE sessions SET {change}")
    daemon.start()
    problem(asker(daemon, None, Cookie=cookie)("GET", "/v1/whoami"), 401, "auth.required")
    log_in(daemon, daemon.token)                # and makes room for the next
    assert session["id"] not in [s["id"] for s in daemon("GET", "/v1/sessions").json()["data"]]


# ---- proxies ----

@pytest.fixture
def proxied(make_daemon, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s3cret-of-the-proxy\n")
    return make_daemon(trusted_proxies="127.0.0.1, fd00::/8", proxy_secret_file=str(secret))


VOUCHED = {"X-Forwarded-User": "alice@example.com", "X-Repquant-Proxy-Secret": "s3cret-of-the-proxy"}


def test_a_proxys_user_is_whom_an_administrator_has_entered(proxied):
    ask = asker(proxied, None, **VOUCHED)
    problem(ask("GET", "/v1/whoami"), 401, "auth.required")
    alice = make_token(proxied, identity="alice@example.com", role="member")
    assert "token" not in alice and alice["identity"] == "alice@example.com"
    assert ask("GET", "/v1/whoami").json()["token_id"] == alice["id"]
    problem(proxied("POST", "/v1/tokens", json={"name": "x", "role": "viewer", "identity": "alice@example.com"}), 409, "resource.conflict", "/identity")
    lead = asker(proxied, make_token(proxied, role="team_admin")["token"])
    problem(lead("POST", "/v1/tokens", json={"name": "x", "role": "viewer", "identity": "bob"}), 403, "auth.forbidden", "/identity")
    for headers in ({"X-Repquant-Proxy-Secret": "wrong"}, {"X-Repquant-Proxy-Secret": ""}, {"X-Forwarded-User": "bob"}, {"X-Forwarded-User": "Alice@example.com"}):
        problem(ask("GET", "/v1/whoami", headers=headers), 401, "auth.required")
    problem(ask("DELETE", "/v1/models/x"), 403, "auth.forbidden")                   # a browser's, for all we know
    problem(ask("DELETE", "/v1/models/x", headers={"Sec-Fetch-Site": "cross-site"}), 403, "auth.forbidden")
    assert ask("DELETE", "/v1/models/x", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 404
    problem(ask("GET", "/v1/whoami", headers={"X_Forwarded_User": "root"}), 400, "request.framing")
    assert proxied("DELETE", f"/v1/tokens/{alice['id']}").status_code == 204
    problem(ask("GET", "/v1/whoami"), 401, "auth.required")


def test_two_copies_of_an_identity_are_refused(proxied):
    answer = proxied.raw(b"GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-User: a\r\nX-Forwarded-User: b\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_nobody_else_may_vouch(make_daemon, tmp_path):
    (tmp_path / "secret").write_text("s3cret-of-the-proxy")
    daemon = make_daemon(trusted_proxies="10.0.0.0/8", proxy_secret_file=str(tmp_path / "secret"))
    make_token(daemon, identity="alice@example.com", role="member")
    ask = asker(daemon, None, **VOUCHED, **{"X-Forwarded-For": "10.1.2.3"})
    problem(ask("GET", "/v1/whoami"), 401, "auth.required")
    problem(ask("GET", "/v1/whoami", headers={"X_Forwarded_User": "alice@example.com"}), 401, "auth.required")
    rows = [json.loads(line) for line in daemon("GET", "/v1/audit").text.splitlines()]
    assert {r["peer"] for r in rows} == {"127.0.0.1"}


def test_the_clients_address_is_what_the_nearest_trusted_proxy_saw(proxied):
    for forwarded, client in (("203.0.113.9", "203.0.113.9"), ("1.1.1.1, 203.0.113.9", "203.0.113.9"), ("203.0.113.9, fd00::7,127.0.0.1", "203.0.113.9"),
                              ("nonsense", "127.0.0.1"), ("2001:db8::1", "2001:db8::1"), ("", "127.0.0.1"), (",", "127.0.0.1")):
        answer = asker(proxied, "", **{"X-Forwarded-For": forwarded})("GET", "/v1/jobs")
        refused = [json.loads(line) for line in proxied("GET", "/v1/audit?limit=5000").text.splitlines() if f'"{answer.headers["X-Request-Id"]}"' in line]
        assert [r["peer"] for r in refused] == [client], forwarded


@pytest.mark.parametrize("options, names", [
    (["--trusted-proxies=10.0.0.0/33"], "trusted-proxies"), (["--trusted-proxies=proxy.example"], "trusted-proxies"),
    (["--trusted-proxies=10.0.0.1/-1"], "trusted-proxies"), (["--proxy-secret-file=/nonexistent"], "proxy-secret-file"),
    (["--proxy-secret-file=/dev/null"], "proxy-secret-file"), (["--tls-cert=/dev/null"], "tls-key"),
    (["--listen=0.0.0.0"], "plain-http"),
])
def test_a_wrong_option_is_named(tmp_path, options, names):
    ended = subprocess.run([REPQUANTD, f"--data={tmp_path / 'data'}", "--port=0", *options], capture_output=True, text=True, timeout=10)
    assert ended.returncode == 2 and names in ended.stderr, ended.stderr


# ---- TLS ----

@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
                   check=True, capture_output=True)
    return folder


def test_it_speaks_tls_itself(make_daemon, certificate):
    daemon = make_daemon(tls_cert=str(certificate / "cert.pem"), tls_key=str(certificate / "key.pem"))
    url, verify = daemon.url.replace("http:", "https:"), str(certificate / "cert.pem")
    headers = {"Authorization": f"Bearer {daemon.token}"}
    answer = requests.put(url + "/v1/models?name=x", headers=headers, data=b"#inspect result result.json {}\n" + b"x" * 3_000_000, verify=verify, timeout=30)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
    blob = requests.get(url + f"/v1/blobs/{answer.json()['digest']}", headers=headers, verify=verify, timeout=30)
    assert hashlib.sha256(blob.content).hexdigest() == answer.json()["digest"].removeprefix("sha256:")
    for version, status in (("1.1", None), ("1.2", 200), ("1.3", 200)):
        # At security level 0 the client would do with 1.1.
        asked = subprocess.run(["curl", "-s", "--noproxy", "*", "--cacert", verify, f"--tlsv{version}", "--tls-max", version, "--ciphers",
                                "DEFAULT:@SECLEVEL=0", "-o", "/dev/null", "-w", "%{http_code}", url + "/healthz"], capture_output=True, text=True, timeout=20)
        assert (asked.stdout, asked.returncode == 0) == (str(status or "000"), status is not None), (version, asked)
    with pytest.raises(requests.exceptions.RequestException):
        requests.get(daemon.url + "/healthz", timeout=10)               # plain text to the TLS port
    assert requests.get(url + "/healthz", verify=verify, timeout=10).status_code == 200
    assert daemon.stop() == 0


def test_a_key_that_does_not_belong_to_the_certificate_is_told_at_start(tmp_path, certificate):
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "other.pem"], check=True, capture_output=True)
    for cert, key in ((certificate / "cert.pem", tmp_path / "other.pem"), (certificate / "key.pem", certificate / "key.pem")):
        ended = subprocess.run([REPQUANTD, f"--data={tmp_path / 'data'}", "--port=0", f"--tls-cert={cert}", f"--tls-key={key}", "--repquant=/bin/true"],
                               capture_output=True, text=True, timeout=10)
        assert ended.returncode == 2 and "tls" in ended.stderr, ended.stderr
