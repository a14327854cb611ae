"""The pages as people use them."""
import gzip
import re

import pytest
from conftest import DIGITS, ROOT
from playwright.sync_api import expect

HOSTILE = "<img src=x onerror=alert(1)>"


def put(daemon, kind, file, name):
    answer = daemon("PUT", f"/v1/{kind}", params={"name": name}, data=(DIGITS / file).read_bytes())
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


@pytest.fixture(scope="session")
def jobs(daemon):
    """Two finished jobs of the example, quantized for real."""
    body = {"type": "quantize", "model_id": put(daemon, "models", "model.onnx", HOSTILE), "dataset_id": put(daemon, "datasets", "calib.npz", "calib"),
            "eval_dataset_id": put(daemon, "datasets", "eval.npz", "eval")}
    made = [daemon("POST", "/v1/jobs", json={**body, "recipe": r}).json()["id"] for r in ("repquant-w4a4", "percentile-w8a8")]
    ended = [daemon.ended(j, 120) for j in made]
    assert [j["state"] for j in ended] == ["succeeded"] * 2, ended
    return ended


def test_a_token_opens_a_session_and_logging_out_ends_it(daemon, browse, accessible, shot):
    page = browse(daemon, "/", log_in=False)
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    accessible(page)
    shot(page, "login")
    page.get_by_label("Token").fill("rq_" + "0" * 43)
    page.watch.expected = lambda m: "401" in m.text      # the wrong token
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("auth.required")
    page.get_by_label("Token").fill(daemon.token)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Queue")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Queue")).to_be_visible()
    assert page.evaluate("document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)") == "{}{}"
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_without_tokens_nobody_logs_in(make_daemon, browse):
    page = browse(make_daemon(auth="off"), "/", log_in=False)
    page.watch.expected = lambda m: "404" in m.text and m.location["url"].endswith("/v1/session")
    expect(page.get_by_role("heading", name="Queue")).to_be_visible()


def test_the_queue_shows_jobs_and_its_filters_are_in_the_address(daemon, jobs, browse, accessible, shot):
    page = browse(daemon)
    table = page.get_by_role("table", name="Jobs")
    expect(table.get_by_role("link", name=jobs[0]["id"])).to_be_visible()
    expect(table.get_by_text(HOSTILE).first).to_be_visible()
    expect(table.get_by_text("succeeded").first).to_be_visible()
    accessible(page)
    shot(page, "queue")
    page.get_by_role("link", name="Failures").click()
    expect(page).to_have_url(re.compile(r"#/queue\?view=failed$"))
    expect(page.get_by_text("No jobs here.")).to_be_visible()
    page.reload()
    expect(page.get_by_role("link", name="Failures")).to_have_attribute("aria-current", "page")
    expect(page.get_by_text("No jobs here.")).to_be_visible()


def test_the_queue_is_read_in_the_dark_too(daemon, jobs, browse, accessible, shot):
    page = browse(daemon, color_scheme="dark")
    expect(page.get_by_role("table", name="Jobs")).to_be_visible()
    accessible(page)
    shot(page, "queue-dark")


def test_the_whole_dashboard_is_small_and_parses_no_html():
    files = sorted((ROOT / "api" / "dashboard").iterdir())
    assert sum(len(gzip.compress(f.read_bytes())) for f in files) < 200_000
    for f in files:
        if f.suffix == ".js":
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\.style\b|https?://(?!www\.w3\.org/2000/svg)", f.read_text()), f


# ---- a job ----

def script_job(daemon, script, **more):
    return daemon.job(script, **more)["id"]


def test_a_finished_job_shows_its_verdict(daemon, jobs, browse, accessible, shot):
    page = browse(daemon)
    page.get_by_role("link", name=jobs[0]["id"]).click()
    expect(page.get_by_role("heading", name=f"{HOSTILE}, repquant-w4a4")).to_be_visible()
    expect(page.get_by_role("heading", name="Verdict")).to_be_visible()
    metrics = page.get_by_role("table", name="Metrics")
    expect(metrics.get_by_role("row").filter(has_text="top-1")).to_contain_text(f"{jobs[0]['result']['metrics']['top1']['quantized']:g} %")
    expect(page.get_by_text("26 of 26")).to_be_visible()
    expect(page.get_by_role("table", name="Stages").get_by_text("quantizing")).to_be_visible()
    digest = next(a["digest"] for a in daemon("GET", jobs[0]["urls"]["artifacts"]).json()["data"] if a["name"] == "model.onnx")
    expect(page.get_by_text(f"{digest.removeprefix('sha256:')}  model.onnx")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="model.onnx").click()
    assert download.value.path().stat().st_size == jobs[0]["result"]["bytes_after"]
    accessible(page)
    shot(page, "job")


def test_a_running_job_moves_and_is_canceled_and_tried_again(obedient, browse, accessible, shot):
    job = script_job(obedient, "stage quantizing; progress 1 4; sleep 3000; progress 3 4; hang")
    page = browse(obedient, f"/#/jobs/{job}")
    status = page.get_by_role("status")
    expect(status).to_contain_text("quantizing")
    bar = page.get_by_role("progressbar", name="progress")
    expect(bar).to_have_attribute("value", "75")
    accessible(page)
    shot(page, "job-running")
    page.get_by_role("button", name="Cancel").click()
    expect(status).to_contain_text("canceled")
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("link", name=job)).to_be_visible()
    expect(page).not_to_have_url(re.compile(job))
    page.get_by_role("button", name="Cancel").click()
    expect(status).to_contain_text("canceled")


def test_a_failure_says_why(obedient, browse, accessible):
    job = script_job(obedient, f"problem model.unsupported_op no {HOSTILE.replace(' ', '/')}")
    obedient.ended(job)
    page = browse(obedient, f"/#/jobs/{job}")
    expect(page.get_by_role("alert")).to_contain_text(HOSTILE.replace(" ", "/"))
    accessible(page)
