"""The audit log and the changes it tells of are one: whatever changes something is noted with the change, or is not done."""
import base64
import json
import sqlite3

import pytest
import requests
from support import digest_of

TUS = {"Tus-Resumable": "1.0.0"}
PART = {**TUS, "Content-Type": "application/offset+octet-stream"}
MODEL = b"#quantize \n"
DATA = b'#inspect result result.json {"format":"npz","samples":4}\n'


class Changes:
    """Every request that changes something, in an order in which each can succeed; what one makes the next may use."""

    def __init__(self, daemon):
        self.d = daemon
        self.made = {}

    def keep(self, name, answer):
        if answer.status_code < 300:
            self.made[name] = answer.headers["Location"]
        return answer

    def id(self, name):
        return self.made[name].rsplit("/", 1)[1]

    def job(self):
        body = {"type": "quantize", "model_id": self.id("model"), "dataset_id": self.id("dataset"), "recipe": "minmax-w8a8",
                "not_before": "2099-01-01T00:00:00Z"}
        return self.keep("job", self.d("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": "one"}))

    def session(self):
        answer = self.d("POST", "/v1/session", json={})
        if answer.status_code == 201:
            self.cookie, self.csrf = answer.headers["Set-Cookie"].split(";")[0], answer.json()["csrf_token"]
            self.d.session.cookies.clear()
        return answer

    def logout(self):
        return requests.delete(self.d.url + "/v1/session", timeout=30,
                               headers={"Cookie": self.cookie, "X-Repquant-Csrf": self.csrf, "Sec-Fetch-Site": "same-origin"})

    def __iter__(self):
        d = self.d
        yield lambda: d("PUT", "/v1/teams/local/quota", json={"max_running": 0})       # jobs stay where they are put
        yield lambda: d("PUT", f"/v1/blobs/{digest_of(MODEL)}", data=MODEL)
        yield lambda: self.keep("model", d("POST", "/v1/models", json={"name": "m", "digest": digest_of(MODEL)}))
        yield lambda: self.keep("dataset", d("PUT", "/v1/datasets?name=d", data=DATA))
        yield lambda: self.keep("upload", d("POST", "/v1/uploads", headers={**TUS, "Upload-Length": "5"}))
        yield lambda: d("PATCH", self.made["upload"], data=b"he", headers={**PART, "Upload-Offset": "0"})
        yield lambda: d("PATCH", self.made["upload"], data=b"llo", headers={**PART, "Upload-Offset": "2"})
        yield lambda: d("DELETE", self.made["upload"], headers=TUS)
        yield lambda: self.keep("whole", d("POST", "/v1/uploads", data=b"whole", headers={**PART, "Upload-Length": "5"}))
        yield self.job
        yield lambda: d("POST", self.made["job"] + "/cancel")
        yield lambda: self.keep("again", d("POST", self.made["job"] + "/retry"))
        yield lambda: d("POST", self.made["again"] + "/cancel")
        yield lambda: d("DELETE", self.made["again"])
        yield lambda: d("DELETE", self.made["job"])
        yield lambda: self.keep("token", d("POST", "/v1/tokens", json={"name": "t", "role": "viewer"}))
        yield lambda: d("DELETE", self.made["token"])
        yield lambda: self.keep("team", d("POST", "/v1/teams", json={"name": "blue"}))
        yield lambda: d("PUT", self.made["team"] + "/quota", json={"max_queued": 3})
        yield lambda: d("DELETE", self.made["team"])
        yield self.session
        yield self.logout
        yield lambda: d("DELETE", self.made["dataset"])
        yield lambda: d("DELETE", self.made["model"])


class Base:
    """The database, looked at from outside."""

    def __init__(self, daemon):
        self.lite = sqlite3.connect(daemon.data / "repquant.db", isolation_level=None, timeout=10)

    def __call__(self, sql):
        return self.lite.execute(sql).fetchall()

    def rows(self):
        """All there is but the log and when a token was last used."""
        tables = [name for name, in self("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('audit', 'sqlite_sequence')")]
        columns = {t: [c[1] for c in self(f"PRAGMA table_info({t})") if c[1] != "last_used_at"] for t in tables}
        return {t: self(f"SELECT {', '.join(columns[t])} FROM {t} ORDER BY 1, 2") if len(columns[t]) > 1 else self(f"SELECT * FROM {t}") for t in tables}

    def close(self):
        self.lite.close()


@pytest.fixture
def changed(make_daemon):
    d = make_daemon()
    base = Base(d)
    yield d, base
    base.close()


def test_each_change_is_noted_once_as_it_was_answered(changed):
    d, base = changed
    answers = [change() for change in Changes(d)]
    assert all(a.ok for a in answers), [(a.request.method, a.url, a.text) for a in answers if not a.ok]
    told = base("SELECT request, status, code, method FROM audit ORDER BY seq")
    assert told == [(a.headers["X-Request-Id"], a.status_code, "", a.request.method) for a in answers]


def test_no_change_is_made_that_cannot_be_noted(changed):
    d, base = changed
    for change in Changes(d):
        before = base.rows()
        base("CREATE TRIGGER no_notes BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no notes today'); END")
        answer = change()
        base("DROP TRIGGER no_notes")
        assert answer.status_code >= 500, f"{answer.request.method} {answer.url}: {answer.status_code}"
        assert base.rows() == before, f"{answer.request.method} {answer.url} changed something"
        answer = change()
        assert answer.ok, f"{answer.request.method} {answer.url}: {answer.text}"


def test_what_was_noted_and_then_failed_is_told_of_twice(changed):
    d, base = changed
    answer = d("PUT", "/v1/models?name=broken", data=b"#inspect exit 1\n")
    assert answer.status_code >= 400
    announced = base64.b64encode(64 * b"0").decode()
    wrong = d("POST", "/v1/uploads", data=b"hello", headers={**PART, "Upload-Length": "5", "Upload-Metadata": f"sha256 {announced}"})
    assert wrong.status_code == 422, wrong.text
    rows = base("SELECT request, status, code FROM audit ORDER BY seq")
    bad, late = answer.headers["X-Request-Id"], wrong.headers["X-Request-Id"]
    assert rows == [(bad, 201, ""), (bad, answer.status_code, json.loads(answer.text)["code"]), (late, 422, "upload.digest_mismatch")]
