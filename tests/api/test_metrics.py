"""GET /metrics, read by Prometheus' own tool where it is installed (Debian package prometheus)."""
import re
import shutil
import subprocess

import pytest
import requests
from conftest import until
from support import SANITIZED

OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


def value(daemon, series):
    for line in requests.get(daemon.url + "/metrics", timeout=20).text.splitlines():
        name, _, x = line.rpartition(" ")
        if name == series:
            return float(x)
    return None


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is absent: install the Debian package prometheus (scripts/setup operate)")
def test_prometheus_own_tool_finds_nothing_to_complain_of(daemon):
    daemon.ended(daemon.job("stage preparing; stage quantizing; layer 1; result model.onnx MODEL")["id"])
    text = requests.get(daemon.url + "/metrics", timeout=20)
    assert text.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    told = subprocess.run(["promtool", "check", "metrics"], input=text.content, capture_output=True, timeout=60)
    assert (told.returncode, told.stdout + told.stderr) == (0, b"")


def test_openmetrics_for_who_asks_for_it(daemon):
    answer = requests.get(daemon.url + "/metrics", headers=OPEN_METRICS, timeout=20)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text") and answer.text.endswith("# EOF\n")
    assert 'repquant_build_info{version="' in answer.text and "# TYPE repquant_http_requests counter\n" in answer.text
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", answer.text, re.M))
    suffixes = {"counter": ("_total",), "gauge": ("",), "info": ("_info",), "histogram": ("_bucket", "_sum", "_count")}
    for line in answer.text.splitlines():
        if not line.startswith("#"):
            name = re.match(r"[a-z_]+", line)[0]
            assert any(name == family + s for family, kind in types.items() for s in suffixes[kind]), line
    for family, unit in re.findall(r"^# UNIT (\S+) (\S+)$", answer.text, re.M):
        assert family.endswith("_" + unit)


def test_what_happens_is_counted(make_daemon):
    d = make_daemon()
    series = 'repquant_http_requests_total{method="GET",route="/v1/jobs/{job}",status="4xx"}'
    assert value(d, series) is None
    for _ in range(3):
        assert d("GET", "/v1/jobs/job_" + "0" * 26).status_code == 404
    until(lambda: value(d, series) == 3, what="three answers counted")
    job = d.job("stage preparing; stage quantizing; layer 1; hang")
    until(lambda: value(d, 'repquant_jobs{state="running"}') == 1 and value(d, "repquant_workers_busy") == 1, what="a job that runs")
    until(lambda: d("GET", f"/v1/jobs/{job['id']}").json()["stage"] == "quantizing", what="what it says")
    assert value(d, "repquant_queue_wait_seconds_count") == 1
    with d("GET", job["urls"]["events"], headers={"Accept": "text/event-stream"}, stream=True) as stream:
        assert next(stream.iter_lines()) == b"id: 1" and value(d, "repquant_event_readers") == 1
        d("POST", job["urls"]["cancel"])
        d.ended(job["id"])
    until(lambda: value(d, "repquant_event_readers") == 0 and value(d, "repquant_workers_busy") == 0, what="the end of both")
    assert value(d, 'repquant_job_stage_seconds_count{stage="preparing"}') == 1 == value(d, 'repquant_job_stage_seconds_count{stage="quantizing"}')
    assert value(d, 'repquant_jobs{state="canceled"}') == 1 and value(d, "repquant_database_commit_seconds_count") > 5
    assert value(d, "repquant_upload_bytes_total") > 20 and value(d, "repquant_uploads_in_flight") == 0
    assert value(d, "repquant_upload_held_bytes") == 0
    assert value(d, "repquant_disk_free_bytes") > 0 <= value(d, "repquant_disk_reserved_bytes")
    assert value(d, "repquant_http_requests_in_flight") >= 1, "this one"
    assert value(d, "repquant_database_memory_bytes") > 0 and (SANITIZED or value(d, "repquant_heap_bytes") > value(d, "repquant_database_memory_bytes"))


def test_no_series_is_named_by_a_client(make_daemon):
    d = make_daemon()
    job = d.job("result model.onnx MODEL", labels={"secret": "label"})
    d.ended(job["id"])
    for path in ("/v1/jobs/job_secret", "/v1/secret", "/secret/../x", "/v1/models?secret=1", f"/v1/jobs/{job['id']}/layers"):
        d("GET", path)
    d("SECRET", "/v1/jobs")
    text = requests.get(d.url + "/metrics", timeout=20).text
    assert "secret" not in text.lower() and not re.search("(job|mdl|ds|tok|req|art)_[0-9A-Za-z]{16}", text)
    assert text.count("\n") < 400


@pytest.mark.parametrize("option, headers, status", [
    ("local", {}, 200), ("local", {"X-Forwarded-For": "203.0.113.9"}, 401), ("nobody", {}, 401), ("everybody", {"X-Forwarded-For": "203.0.113.9"}, 200),
])
def test_who_may_read_them_without_a_token(make_daemon, option, headers, status):
    d = make_daemon(metrics=option)
    assert requests.get(d.url + "/metrics", headers=headers, timeout=20).status_code == status
    assert d("GET", "/metrics", headers=headers).status_code == 200


def test_behind_a_trusted_proxy_only_this_machine_is_local(make_daemon):
    d = make_daemon(trusted_proxies="127.0.0.1")
    assert requests.get(d.url + "/metrics", headers={"X-Forwarded-For": "203.0.113.9"}, timeout=20).status_code == 401
    assert requests.get(d.url + "/metrics", timeout=20).status_code == 200
