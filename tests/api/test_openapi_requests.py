"""What openapi.yaml says and what the service does are the same: requests generated from the document, each answer compared with it.

No answer is a 5xx, every answer is described, what the document forbids is refused, what it allows is not called malformed.  A few for each
operation in `make test`, 3,000 in `make test-long`.
"""
import collections
import pathlib

import pytest
import requests
import yaml
from conftest import ROOT, until
from generated import Document
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from receiver import Receiver, certificate
from test_pipeline_jobs import told
from test_webhooks import options

DOCUMENT = Document(yaml.safe_load((ROOT / "api" / "openapi.yaml").read_text()))
OPERATIONS = {name: (parameters, operation) for name, parameters, operation in DOCUMENT.operations()}
RUN = ('stage preparing; layer 1; metric top1 0.5 0.4; result model.onnx MODEL; result report.json {"layers":[]}; '
       'result details.json [{"index":0}]')
ABSENT = "0" * 26
# What a schema cannot say of a request that it allows: another 4xx than these means that the document is wrong.
MALFORMED = {"request.json", "request.invalid", "request.media_type"}
# What only the place where it stands decides: another list's cursor, a field that only streams read.
ELSEWHERE = {"cursor"}
ONLY_STREAMS_READ = "Last-Event-ID"
# The child that stands in for the quantizer does not know how to compare a data set with a model.
STANDS_IN = {"POST /v1/datasets/{dataset}/validations"}
# Whose success cannot be seen: who sends a token has no session.
NEVER = {"GET /v1/session", "DELETE /v1/session"}


class World:
    """A daemon with something of everything, made anew behind each operation that deletes."""

    def __init__(self, daemon, receiver):
        self.daemon, self.receiver, self.sent, self.count, self.objects = daemon, receiver, requests.Session(), 0, None
        self.teams = 0
        self.answered = collections.defaultdict(set)        # by operation: statuses
        self.sent.trust_env = False

    def before(self, name):
        self.objects = self.objects or self.refresh()
        objects = self.objects
        if name.startswith(("DELETE", "PUT /v1/teams")):
            self.objects = None
        return objects

    def post(self, path, **body):
        answer = self.daemon("POST", path, json=body)
        assert answer.status_code in (201, 202), answer.text
        return answer.json()

    def refresh(self):
        d = self.daemon
        script = f"#quantize {RUN}\n{told()}"
        model, data = d.upload("models", script, name="model"), d.upload("datasets", '#inspect result result.json {"format":"npz","samples":4}\n')
        job = self.post("/v1/jobs", type="quantize", model_id=model["id"], dataset_id=data["id"], recipe="minmax-w8a8")
        gone = self.post("/v1/jobs", type="quantize", model_id=model["id"], dataset_id=data["id"], recipe="minmax-w8a8")
        d("POST", f"/v1/jobs/{gone['id']}/cancel")
        d.ended(gone["id"])
        assert d.ended(job["id"])["state"] == "succeeded"
        artifacts = [a["id"] for a in d("GET", f"/v1/jobs/{job['id']}/artifacts").json()["data"]]
        upload = d("POST", "/v1/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "20"}, data=b"").headers["Location"].rsplit("/", 1)[1]
        token = self.post("/v1/tokens", name="spare", role="viewer")
        if d("GET", "/v1/teams/red").status_code == 404:
            self.post("/v1/teams", name="red")
        if d("GET", "/v1/recipes/ours").status_code == 404:
            self.post("/v1/recipes", name="ours", recipe={"preset": "minmax-w8a8", "exclude": ["*head*"]})
        for left in d("GET", "/v1/recipes").json()["data"]:                 # likewise: a team has room for so many
            if not left["preset"] and left["name"] != "ours":
                assert d("DELETE", f"/v1/recipes/{left['name']}").status_code == 204
        self.teams += 1
        team = self.post("/v1/teams", name=f"empty-{self.teams}")["name"]
        session = self.post("/v1/session")["id"]
        for left in d("GET", "/v1/webhooks?limit=200").json()["data"]:      # of requests that made some: each would hear of every job
            d("DELETE", f"/v1/webhooks/{left['id']}")
        hook, down = (self.post("/v1/webhooks", url=f"{self.receiver.url}/{how}/{how}")["id"] for how in ("200", "503"))
        delivery, failing = (self.post(f"/v1/webhooks/{h}/ping")["id"] for h in (hook, down))
        for h, id_, state in (hook, delivery, "delivered"), (down, failing, "failed"):
            until(lambda h=h, id_=id_, state=state: d("GET", f"/v1/webhooks/{h}/deliveries/{id_}").json()["state"] == state, what=f"a delivery that {state}")
        jobs, models, sets = [job["id"], gone["id"], "job_" + ABSENT], [*[model["id"]] * 4, "mdl_" + ABSENT], [*[data["id"]] * 4, "ds_" + ABSENT]
        return {"job": jobs, "model": models, "model_id": models, "dataset": sets, "dataset_id": sets, "eval_dataset_id": sets,
                "artifact": [*artifacts, "art_" + ABSENT], "upload": [upload, "upl_" + ABSENT], "token": [token["id"], "tok_" + ABSENT],
                "team": [team, "red", "nobody"], "session": [session, "ses_" + ABSENT], "webhook": [hook, hook, down, "whk_" + ABSENT],
                "delivery": [delivery, delivery, failing, "dlv_" + ABSENT],
                "digest": [model["digest"], "sha256:" + "0" * 64], "bytes": [script.encode(), b"ten bytes."], "Upload-Offset": ["0"],
                "recipe": ["minmax-w8a8", "ours", {"preset": "ours"}, {"preset": "minmax-w8a8"}, {"method": "minmax"}, "none"],
                "file": ["style.css", "none.js"], "index": ["0", "1", "99"], "wait": ["0"], "sort": ["index", "cosine", "none"],
                "state": ["queued", "running,failed", "lost"], "label": ["a:b", "a"], "cursor": [job["id"], model["id"], "x"],
                "name": ["minmax-w8a8", "model", "ours"], "type": ["quantize"], "url": [f"{self.receiver.url}/200/200", "https://127.0.0.1:9/x", "http://[::1]/", "https://x.invalid/y", "file:///etc/passwd"]}

    def ask(self, method, path, headers, body):
        self.count += 1
        authorization = {"Authorization": f"Bearer {self.daemon.token}"}
        return self.sent.request(method, self.daemon.url + path, headers={**headers, **authorization}, data=body, timeout=60)


@pytest.fixture(scope="module")
def world(tmp_path_factory, fake_job):
    from conftest import Daemon
    folder = tmp_path_factory.mktemp("openapi")
    certificate(folder)
    receiver = Receiver(folder)
    d = Daemon(folder, fake_job, options(folder, rate="0", guesses="0", workers="2", webhooks="200", **{"webhook-retries": "0"})).start()
    yield World(d, receiver)
    assert d.process.poll() is None, "the daemon has died: " + pathlib.Path(d.log).read_text()[-4000:]
    assert d.stop() == 0
    receiver.end()


def check(world, name, examples):
    parameters, operation = OPERATIONS[name]
    objects = world.before(name)

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(st.data())
    def ask(data):
        method, path, headers, body, objections = DOCUMENT.request(data.draw, name, parameters, operation, objects)
        objections = [o for o in objections if not o.startswith(ONLY_STREAMS_READ)]
        answer = world.ask(method, path, headers, body)
        told = f"{method} {path} {headers} {body} -> {answer.status_code} {answer.text[:600]}"
        world.answered[name].add(answer.status_code)
        wrong = DOCUMENT.objection(operation, answer)
        if name in STANDS_IN and answer.status_code == 200:
            wrong = None
        assert not wrong, f"{wrong}\n{told}"
        assert not (objections and answer.status_code < 400), f"accepted in spite of: {objections}\n{told}"
        problem = answer.json() if answer.headers.get("Content-Type") == "application/problem+json" else {}
        assert objections or problem.get("code") not in MALFORMED or problem.get("where") in ELSEWHERE, f"the document has nothing against this\n{told}"

    ask()


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_few_requests_for_each_operation(world, name):
    check(world, name, 4)


@pytest.mark.long
@pytest.mark.parametrize("name", OPERATIONS)
def test_many_requests_for_each_operation(world, name):
    check(world, name, 60)


@pytest.mark.long
def test_they_were_three_thousand(world):
    assert world.count >= 3000


@pytest.mark.long
def test_each_operation_did_what_it_is_for(world):
    assert {name for name in OPERATIONS if min(world.answered[name], default=999) >= 400} == NEVER, "with others only refusals were seen"
