"""GET /v1/jobs/{job}/report as CSV and as one HTML page, made of the numbers the service has."""
import base64
import csv
import hashlib
import html.parser
import io
import json

import pytest
from conftest import REPQUANT, ROOT, Daemon

EVIL = "</title><script>alert(1)</script>&\"'"


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and what scripts and styles hold, as they are; complains of tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.raw = [], [], {"script": [], "style": []}
        self.feed(text)
        self.close()
        assert not self.open
        self.numbers = json.loads(self.raw["script"][0])

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag != "meta":
            self.open.append(tag)
        if tag in self.raw:
            self.raw[tag].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]][-1] += data


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The digits model quantized by the real program through a daemon, under a name that would be a script."""
    d = Daemon(tmp_path_factory.mktemp("report"), REPQUANT, {}).start()
    ids = {}
    for kind, file, name in (("models", "model.onnx", EVIL), ("datasets", "calib.npz", "calib"), ("datasets", "eval.npz", "eval")):
        answer = d("PUT", f"/v1/{kind}", params={"name": name}, data=(ROOT / "examples/digits" / file).read_bytes())
        assert answer.status_code == 201, answer.text
        ids[file] = answer.json()["id"]
    job = d("POST", "/v1/jobs", json={"type": "quantize", "model_id": ids["model.onnx"], "dataset_id": ids["calib.npz"],
                                      "eval_dataset_id": ids["eval.npz"], "recipe": "repquant-w4a8"}).json()
    assert d.ended(job["id"], 120)["state"] == "succeeded"
    yield d, job
    assert d.stop() == 0


def test_csv_has_a_line_for_each_layer_with_the_numbers_of_json(real):
    d, job = real
    answer = d("GET", f"/v1/jobs/{job['id']}/report", params={"format": "csv"})
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{job["id"]}.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode(), newline=""), strict=True))
    layers = d("GET", f"/v1/jobs/{job['id']}/report").json()["layers"]
    assert len(rows) == len(layers) > 20
    for row, layer in zip(rows, layers):
        for name, text in row.items():
            value = layer.get(name, int(row["index"]))
            if isinstance(value, str):
                assert text == value
            elif value is None:
                assert text == ""
            else:
                assert float(text) == pytest.approx(value, rel=1e-8)
    assert {"name", "op", "block", "role", "weight_bits", "act_bits", "planned_precision", "actual_precision", "skip_reason", "weight_sqnr_db", "output_sqnr_db",
            "output_mse", "cosine", "isolated_sqnr_db", "accumulated_sqnr_db", "act_min", "act_max", "channel_range_ratio_before",
            "channel_range_ratio_after", "saturation_pct", "params", "bytes_before", "bytes_after", "seconds"} <= set(rows[0])


def test_html_is_one_page_that_loads_nothing_and_runs_only_our_scripts(real):
    d, job = real
    answer = d("GET", f"/v1/jobs/{job['id']}/report", params={"format": "html"})
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Disposition"].startswith("attachment") and "sandbox" in answer.headers["Content-Security-Policy"]
    page = Page(answer.content.decode())
    assert not {tag for tag, _ in page.tags} & {"img", "link", "iframe", "object", "form", "a", "svg", "base"}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") or name in ("href", "src", "style", "action") for name in attributes), (tag, attributes)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    allowed = {part.split()[0]: part.split()[1:] for part in policy.split("; ")}
    digest = {name: [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts] for name, texts in page.raw.items()}
    assert allowed["default-src"] == ["'none'"] and allowed["style-src"] == digest["style"] and allowed["script-src"] == digest["script"][1:]
    numbers = page.raw["script"][0]
    assert "<" not in numbers and page.numbers["model"] == EVIL
    assert page.numbers["job"] == d("GET", f"/v1/jobs/{job['id']}").json()
    assert page.numbers["layers"] == d("GET", f"/v1/jobs/{job['id']}/layers").json()["data"]
    assert page.numbers["metrics"]["top1"].keys() == {"float", "quantized", "samples"}


def test_both_outlive_the_artifacts_and_need_no_layers(make_daemon):
    d = make_daemon()
    job = d.job('warning a.code; metric top1 0.5 0.25; result model.onnx MODEL')
    d.ended(job["id"])
    path = f"/v1/jobs/{job['id']}/report"
    assert d("GET", path, params={"format": "csv"}).content.count(b"\r\n") == 1
    numbers = Page(d("GET", path, params={"format": "html"}).text).numbers
    assert [w["code"] for w in numbers["warnings"]] == ["a.code"] and numbers["metrics"]["top1"]["quantized"] == 0.25 and numbers["layers"] == []
    assert d("GET", path).status_code == 404, "this job made no report.json"


def test_before_the_end_there_is_none(make_daemon):
    d = make_daemon()
    job = d.job("exit 1", max_attempts=1)
    d.ended(job["id"])
    for name in ("csv", "html", "json"):
        assert d("GET", f"/v1/jobs/{job['id']}/report", params={"format": name}).status_code == 409
    answer = d("GET", f"/v1/jobs/{job['id']}/report", params={"format": "pdf"})
    assert (answer.status_code, answer.json()["where"]) == (400, "format")
