"""Who may do what: every operation of openapi.json x every role x an object of the own team, of another team, and none.

MATRIX says of each operation which role is the least that may use it.  It is written by hand and not taken from the service: an operation that the service
has and MATRIX does not, or the other way round, fails the first test.  What another team has must be answered to the last byte as what nobody has.
"""
import re

import pytest
import requests

ROLES = ("viewer", "member", "team_admin", "admin")
OPEN, ANYBODY = "open", "viewer"

MATRIX = {
    "GET /": OPEN, "GET /dashboard/{file}": OPEN, "GET /healthz": OPEN, "GET /readyz": OPEN, "GET /metrics": OPEN,
    "GET /v1/openapi.json": "viewer", "GET /v1/capabilities": "viewer", "GET /v1/queue/history": "viewer", "GET /v1/queue": "viewer",
    "PUT /v1/blobs/{digest}": "member", "GET /v1/blobs/{digest}": "viewer",
    "POST /v1/uploads": "member", "PATCH /v1/uploads/{upload}": "member", "GET /v1/uploads/{upload}": "member", "DELETE /v1/uploads/{upload}": "member",
    "POST /v1/imports": "member",
    "GET /v1/models": "viewer", "POST /v1/models": "member", "PUT /v1/models": "member",
    "PUT /v1/models/{model}": "member", "GET /v1/models/{model}": "viewer", "DELETE /v1/models/{model}": "member",
    "GET /v1/datasets": "viewer", "POST /v1/datasets": "member", "PUT /v1/datasets": "member",
    "PUT /v1/datasets/{dataset}": "member", "GET /v1/datasets/{dataset}": "viewer", "DELETE /v1/datasets/{dataset}": "member",
    "POST /v1/datasets/{dataset}/validations": "viewer",
    "GET /v1/recipes": "viewer", "POST /v1/recipes": "member", "GET /v1/recipes/{name}": "viewer", "DELETE /v1/recipes/{name}": "member",
    "POST /v1/jobs": "member", "GET /v1/jobs": "viewer", "GET /v1/jobs/{job}": "viewer", "DELETE /v1/jobs/{job}": "member",
    "POST /v1/jobs/{job}/cancel": "member", "POST /v1/jobs/{job}/retry": "member",
    "GET /v1/jobs/{job}/events": "viewer", "GET /v1/jobs/{job}/logs": "viewer", "GET /v1/jobs/{job}/layers": "viewer", "GET /v1/jobs/{job}/layers/{index}/details": "viewer",
    "GET /v1/jobs/{job}/report": "viewer", "GET /v1/jobs/{job}/artifacts": "viewer",
    "GET /v1/artifacts/{artifact}": "viewer", "GET /v1/artifacts/{artifact}/content": "viewer",
    "POST /v1/webhooks": "team_admin", "GET /v1/webhooks": "member", "GET /v1/webhooks/{webhook}": "member",
    "PATCH /v1/webhooks/{webhook}": "team_admin", "DELETE /v1/webhooks/{webhook}": "team_admin",
    "POST /v1/webhooks/{webhook}/rotate_secret": "team_admin", "POST /v1/webhooks/{webhook}/ping": "team_admin",
    "GET /v1/webhooks/{webhook}/deliveries": "member", "GET /v1/webhooks/{webhook}/deliveries/{delivery}": "member",
    "POST /v1/webhooks/{webhook}/deliveries/{delivery}/redeliver": "team_admin",
    "GET /v1/whoami": ANYBODY,
    "POST /v1/tokens": "team_admin", "GET /v1/tokens": "team_admin", "GET /v1/tokens/{token}": "team_admin", "DELETE /v1/tokens/{token}": "team_admin",
    "POST /v1/teams": "admin", "GET /v1/teams": ANYBODY, "GET /v1/teams/{team}": ANYBODY, "DELETE /v1/teams/{team}": "admin",
    "PUT /v1/teams/{team}/quota": "admin",
    "GET /v1/audit": "team_admin",
    "POST /v1/session": ANYBODY, "GET /v1/session": ANYBODY, "DELETE /v1/session": ANYBODY,
    "GET /v1/sessions": ANYBODY, "DELETE /v1/sessions/{session}": ANYBODY,
}

# Operations whose last path segment is a name the client gives: there is nothing of another team to name.
NAMED_BY_THE_CLIENT = {"PUT /v1/blobs/{digest}", "PUT /v1/models/{model}", "PUT /v1/datasets/{dataset}"}
# The same for every team.
NOBODYS = {"GET /dashboard/{file}"}
# What an administrator may do to another team.
ACROSS_TEAMS = {"GET /v1/teams/{team}", "DELETE /v1/teams/{team}", "PUT /v1/teams/{team}/quota"}

TUS = {"Tus-Resumable": "1.0.0"}
HOOK = "https://localhost:9443/hook"            # loopback is not public: nothing is ever sent there
BLOB = "#inspect result result.json {}\n"
DIGEST_OF_NOTHING = "sha256:" + "0" * 64
ABSENT = {"digest": DIGEST_OF_NOTHING, "model": "mdl_" + "0" * 26, "dataset": "ds_" + "0" * 26, "job": "job_" + "0" * 26,
          "artifact": "art_" + "0" * 26, "upload": "upl_" + "0" * 26, "webhook": "whk_" + "0" * 26, "delivery": "dlv_" + "0" * 26, "token": "tok_" + "0" * 26, "session": "ses_" + "0" * 26, "team": "none", "name": "no-recipe", "index": "0"}
RUN = ('layer 1; result model.onnx {name}; result report.json {{"team":"{name}"}}; result details.json [{{"index":0}}]')


class Team:
    """A team with one of everything, and a token of each role."""

    def __init__(self, daemon, name):
        self.daemon, self.name = daemon, name
        assert daemon("POST", "/v1/teams", json={"name": name}).status_code == 201
        self.tokens = {role: self.make_token(role)["token"] for role in ROLES}
        self.objects = self.make()

    def make_token(self, role):
        answer = self.daemon("POST", "/v1/tokens", json={"name": role, "role": role, "team": self.name})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def log_in(self, role):
        """What a browser sends that has logged in, and the session's id."""
        answer = self.ask(role, "POST /v1/session", {})
        assert answer.status_code == 201, answer.text
        session = answer.json()
        return {"Cookie": answer.headers["Set-Cookie"].split(";")[0], "Sec-Fetch-Site": "same-origin", "X-Repquant-Csrf": session["csrf_token"]}, session["id"]

    def ask(self, role, operation, names, **more):
        method, path = operation.split(" ")
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        if role and operation in ("GET /v1/session", "DELETE /v1/session"):
            headers, _ = self.log_in(role)
        return requests.request(method, self.daemon.url + path.format(**names), headers={**headers, **more.pop("headers", {})}, timeout=30, **more)

    def put(self, kind, script):
        answer = self.ask("member", f"PUT /v1/{kind}", {}, params={"name": self.name}, data=script.encode())
        assert answer.status_code == 201, answer.text
        return answer.json()

    def make(self):
        """Names of things of this team; one of them must not be gone because a test deleted another."""
        self.script = f"#quantize {RUN.format(name=self.name)}\n"
        model = self.put("models", self.script)
        data = self.put("datasets", f'#inspect result result.json {{"format":"npz","samples":4,"team":"{self.name}"}}\n')
        body = {"type": "quantize", "model_id": model["id"], "dataset_id": data["id"], "recipe": "minmax-w8a8"}
        job = self.ask("member", "POST /v1/jobs", {}, json=body).json()
        token = self.daemon.token
        self.daemon.session.headers["Authorization"] = f"Bearer {self.tokens['viewer']}"
        assert self.daemon.ended(job["id"])["state"] == "succeeded"
        self.daemon.session.headers["Authorization"] = f"Bearer {token}"
        artifact = self.ask("viewer", "GET /v1/jobs/{job}/artifacts", {"job": job["id"]}).json()["data"][0]
        upload = self.ask("member", "POST /v1/uploads", {}, headers={**TUS, "Upload-Length": "4"}).headers["Location"].rsplit("/", 1)[1]
        webhook = self.ask("team_admin", "POST /v1/webhooks", {}, json={"url": HOOK}).json()["id"]
        delivery = self.ask("team_admin", "POST /v1/webhooks/{webhook}/ping", {"webhook": webhook}).json()["id"]
        recipe = f"recipe-of-{self.name}"
        assert self.ask("member", "POST /v1/recipes", {}, json={"name": recipe, "recipe": "minmax-w8a8"}).status_code in (200, 201)
        return {"digest": model["digest"], "upload": upload, "webhook": webhook, "delivery": delivery, "model": model["id"], "dataset": data["id"], "job": job["id"], "artifact": artifact["id"],
                "token": self.make_token("viewer")["id"], "session": self.log_in("admin")[1], "team": self.name, "name": recipe, "index": "0", "file": "style.css"}

    def body(self, operation, names):
        """What makes the operation do something to what `names` names."""
        files = {"name": "x", "files": [{"path": "m.onnx", "digest": names["digest"]}]}
        bodies = {"POST /v1/models": files, "POST /v1/datasets": {"name": "x", "digest": names["digest"]},
                  "POST /v1/jobs": {"type": "quantize", "model_id": names["model"], "dataset_id": names["dataset"], "recipe": "minmax-w8a8"},
                  "POST /v1/tokens": {"name": "x", "role": "viewer", "team": names["team"]},
                  "POST /v1/datasets/{dataset}/validations": {"model_id": names["model"]}, "POST /v1/imports": {"url": "https://models.example/x.onnx"},
                  "POST /v1/recipes": {"name": f"new-of-{names['team']}", "recipe": names["name"]}, "POST /v1/webhooks": {"url": HOOK}, "PATCH /v1/webhooks/{webhook}": {"name": "x"},
                  "POST /v1/teams": {"name": f"team-of-{names['team']}"}, "PUT /v1/teams/{team}/quota": {}}
        if operation in bodies:
            return {"json": bodies[operation]}
        if operation == "POST /v1/uploads":
            return {"headers": {**TUS, "Upload-Length": "4"}}
        if operation == "PATCH /v1/uploads/{upload}":
            return {"headers": {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}, "data": b"four"}
        if operation.endswith("/v1/uploads/{upload}"):
            return {"headers": TUS}
        if operation == "PUT /v1/blobs/{digest}":
            return {"data": self.script.encode()}
        return {"data": BLOB.encode()} if operation.startswith("PUT ") else {}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, fake_job):
    from conftest import Daemon
    d = Daemon(tmp_path_factory.mktemp("daemon"), fake_job, {"max-upload": "16M", "webhooks": "1000"}).start()
    yield d
    assert d.stop() == 0


@pytest.fixture(scope="module")
def red(daemon):
    return Team(daemon, "red")


@pytest.fixture(scope="module")
def blue(daemon):
    return Team(daemon, "blue")


def operations(daemon):
    paths = daemon("GET", "/v1/openapi.json").json()["paths"]
    return {f"{method.upper()} {path}" for path, item in paths.items() for method in item if method != "parameters"}


def may(role, operation):
    return MATRIX[operation] == OPEN or ROLES.index(role) >= ROLES.index(MATRIX[operation])


def names_of(operation):
    return re.findall(r"{(\w+)}", operation)


def test_every_operation_is_in_the_matrix(daemon):
    assert operations(daemon) == set(MATRIX)


@pytest.mark.parametrize("operation", MATRIX)
def test_a_stranger_gets_nothing(red, operation):
    answer = red.ask(None, operation, red.objects, **red.body(operation, red.objects))
    assert answer.status_code == (200 if MATRIX[operation] == OPEN else 401)


@pytest.mark.parametrize("role", ROLES)
def test_sessions_of_another_token_are_an_administrators_business(red, role):
    session = red.log_in("viewer" if role != "viewer" else "member")[1]
    answer = red.ask(role, "DELETE /v1/sessions/{session}", {"session": session})
    if ROLES.index(role) >= ROLES.index("team_admin"):
        assert answer.status_code == 204
        return
    absent = red.ask(role, "DELETE /v1/sessions/{session}", ABSENT)
    assert answer.status_code == 404 and told(answer, {"session": session}) == told(absent, ABSENT)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("operation", MATRIX)
def test_a_role_may_what_the_matrix_says_and_no_more(red, operation, role):
    names = red.make() if operation.startswith(("DELETE ", "PATCH ")) else red.objects
    if "{session}" in operation:
        names = {**names, "session": red.log_in(role)[1]}       # everybody may end the own ones
    if operation == "DELETE /v1/teams/{team}":
        names = {**names, "team": "red-empty"}
        red.daemon("POST", "/v1/teams", json={"name": "red-empty"})
    if operation == "POST /v1/teams":
        red.daemon("DELETE", "/v1/teams/team-of-red")
    answer = red.ask(role, operation, names, **red.body(operation, names))
    if not may(role, operation):
        assert answer.status_code == 403 and answer.json()["code"] == "auth.forbidden", answer.text
        return
    # 409: of a job that has succeeded there is nothing to cancel or to try again; 422: no host is listed from which to import.
    expected = (409,) if re.search("/(cancel|retry)$", operation) else (422,) if operation == "POST /v1/imports" else (200, 201, 202, 204)
    assert answer.status_code in expected, answer.text


def told(answer, names):
    """Everything an answer tells, without what names the object and the request."""
    text = answer.text
    for name, value in sorted(names.items(), key=lambda item: -len(item[1])):      # one may be in another
        if name != "index":
            text = text.replace(value, f"<{name}>")
    text = re.sub(r'"request_id":"[^"]*"', "", text)
    headers = {k: v for k, v in answer.headers.items() if k not in ("Date", "X-Request-Id", "Content-Length", "RateLimit")}
    return answer.status_code, text, headers


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("operation", [o for o in MATRIX if names_of(o) and o not in NAMED_BY_THE_CLIENT | NOBODYS])
def test_what_another_team_has_is_answered_as_what_nobody_has(red, blue, operation, role):
    if role == "admin" and operation in ACROSS_TEAMS:
        return
    theirs = {**blue.objects, "index": "0"}
    answer, absent = (red.ask(role, operation, names, **red.body(operation, names)) for names in (theirs, ABSENT))
    assert answer.status_code == (404 if may(role, operation) else 403), answer.text
    assert told(answer, theirs) == told(absent, ABSENT)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("operation, member, pointer", [
    ("POST /v1/models", "digest", "/files/0/digest"), ("POST /v1/datasets", "digest", "/digest"),
    ("POST /v1/datasets/{dataset}/validations", "model", "/model_id"), ("POST /v1/recipes", "name", "/recipe"), ("POST /v1/jobs", "model", "/model_id"), ("POST /v1/jobs", "dataset", "/dataset_id"), ("POST /v1/tokens", "team", "/team"),
])
def test_what_a_body_names_of_another_team_is_answered_as_what_nobody_has(red, blue, operation, member, pointer, role):
    if operation == "POST /v1/tokens" and role == "admin":
        return
    answers = []
    for value in (blue.objects[member], ABSENT[member]):
        names = {**red.objects, member: value}
        answers.append((red.ask(role, operation, names, **red.body(operation, names)), {member: value}))
    (answer, theirs), (absent, none) = answers
    assert answer.status_code == (422 if may(role, operation) else 403), answer.text
    assert not may(role, operation) or answer.json()["pointer"] == pointer
    assert told(answer, theirs) == told(absent, none)


def test_the_list_of_recipes_holds_the_own_teams_alone(red, blue):
    for team, other in ((red, blue), (blue, red)):
        names = {row["name"] for row in team.ask("admin", "GET /v1/recipes", {}).json()["data"]}
        assert team.objects["name"] in names and other.objects["name"] not in names


def test_lists_hold_the_own_teams_rows_alone(red, blue):
    for path, member in (("/v1/models", "model"), ("/v1/datasets", "dataset"), ("/v1/jobs", "job"), ("/v1/tokens", "token"), ("/v1/webhooks", "webhook")):
        for team, other in ((red, blue), (blue, red)):
            ids, cursor = set(), ""
            while cursor is not None:
                page = team.ask("admin", f"GET {path}?limit=200{cursor}", {}).json()
                ids |= {row["id"] for row in page["data"]}
                cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
            assert team.objects[member] in ids and other.objects[member] not in ids


def test_bytes_that_another_team_owns_are_received_again(red, blue):
    """200 would tell that somebody has them."""
    text = b"#inspect result result.json {} both\n"
    import hashlib
    digest = "sha256:" + hashlib.sha256(text).hexdigest()
    assert [team.ask("member", "PUT /v1/blobs/{digest}", {"digest": digest}, data=text).status_code for team in (red, blue, red)] == [201, 201, 200]


def test_where_a_token_was_made_says_where_it_is_revoked(red, blue):
    """An administrator's token of another team: without its team nobody has it."""
    made = red.ask("admin", "POST /v1/tokens", {}, json={"name": "ci", "role": "member", "team": blue.name})
    place = made.headers["Location"]
    assert place == f"/v1/tokens/{made.json()['id']}?team={blue.name}"
    assert red.ask("admin", f"GET {place}", {}).json() == {k: v for k, v in made.json().items() if k != "token"}
    assert red.ask("admin", f"DELETE {place}", {}).status_code == 204
    assert blue.ask("admin", f"GET {place}", {}).status_code == 404
    own = red.ask("team_admin", "POST /v1/tokens", {}, json={"name": "ci", "role": "member"})
    assert own.headers["Location"] == f"/v1/tokens/{own.json()['id']}"
