"""The pages as people use them."""
import base64
import csv
import gzip
import json
import os
import re
import subprocess

import requests
from conftest import DIGITS, HOSTILE, ROOT
from playwright.sync_api import expect

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


def test_the_queue_tells_load_disk_and_how_the_last_day_was(obedient, browse, accessible, shot):
    held = [script_job(obedient, "hang") for _ in range(4)]
    states = [obedient("GET", f"/v1/jobs/{j}").json()["state"] for j in held]
    page = browse(obedient)
    waiting = obedient("GET", "/v1/queue").json()["jobs"]["queued"]
    assert waiting >= 1, states
    expect(page.get_by_role("img", name="Jobs that waited")).to_be_visible()
    expect(page.get_by_role("img", name="How long they waited")).to_be_visible()
    expect(page.get_by_role("meter", name="running here")).to_have_attribute("value", str(obedient("GET", "/v1/queue").json()["jobs"]["running"]))
    expect(page.get_by_text("left on the disk")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="queue-depth as CSV").click()
    points = list(csv.DictReader(download.value.path().read_text().splitlines()))
    assert len(points) == 48 and int(points[-1]["depth"]) == waiting
    accessible(page)
    shot(page, "queue-day")
    for job in held:
        obedient("POST", f"/v1/jobs/{job}/cancel", json={})
        obedient.ended(job)


def test_the_pages_are_read_in_the_dark_too(daemon, jobs, browse, accessible, shot):
    page = browse(daemon, color_scheme="dark")
    expect(page.get_by_role("table", name="Jobs")).to_be_visible()
    accessible(page)
    shot(page, "queue-dark")
    for path, seen in (("layers", page.get_by_role("table", name="Layers")), ("layers/3", page.get_by_role("img", name="log_sqrt2 codes"))):
        page.goto(f"/#/jobs/{jobs[0]['id']}/{path}")
        expect(seen).to_be_visible()
        accessible(page)
        shot(page, f"{path.replace('/', '-')}-dark")


def test_the_whole_dashboard_is_small_and_parses_no_html():
    files = sorted((ROOT / "api" / "dashboard").iterdir())
    assert sum(len(gzip.compress(f.read_bytes())) for f in files) < 200_000
    for f in files:
        if f.suffix == ".js":
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\.style\b|https?://(?!www\.w3\.org/2000/svg)", f.read_text()), f


# ---- a job ----

def script_job(daemon, script, **more):
    return daemon.job(script, **more)["id"]


def test_a_finished_job_shows_its_verdict(daemon, jobs, browse, accessible, shot, tmp_path):
    page = browse(daemon)
    page.get_by_role("link", name=jobs[0]["id"]).click()
    expect(page.get_by_role("heading", name=f"{HOSTILE}, repquant-w4a4")).to_be_visible()
    expect(page.get_by_role("heading", name="Verdict")).to_be_visible()
    metrics = page.get_by_role("table", name="Metrics")
    expect(metrics.get_by_role("row").filter(has_text="top-1")).to_contain_text(f"{jobs[0]['result']['metrics']['top1']['quantized']:g} %")
    expect(page.get_by_text("26 of 26")).to_be_visible()
    expect(page.get_by_role("table", name="Stages").get_by_text("quantizing")).to_be_visible()
    digest = next(a["digest"] for a in daemon("GET", jobs[0]["urls"]["artifacts"]).json()["data"] if a["name"] == "model.onnx")
    verify = page.get_by_role("region", name="Verify").inner_text()
    assert f"{digest.removeprefix('sha256:')}  model.onnx" in verify
    expect(page.get_by_role("img", name="Stages")).to_be_visible()
    page.get_by_text("Log", exact=True).click()
    lines = page.get_by_role("list", name="Log lines").get_by_role("listitem")
    expect(lines.filter(has_text="job.layer_completed").first).to_be_visible()
    page.get_by_label("Show").select_option("steps")
    expect(lines.filter(has_text="job.layer_completed")).to_have_count(0)
    expect(lines.filter(has_text="job.stage_changed").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"\?log=steps$"))
    with page.expect_download() as download:
        page.get_by_role("link", name="model.onnx").click()
    assert download.value.path().stat().st_size == jobs[0]["result"]["bytes_after"]
    for a in daemon("GET", jobs[0]["urls"]["artifacts"]).json()["data"]:
        (tmp_path / a["name"]).write_bytes(daemon("GET", a["urls"]["content"]).content)
    assert subprocess.run(["bash", "-c", verify], cwd=tmp_path, capture_output=True).returncode == 0
    (tmp_path / "report.json").write_bytes(b"{}")
    assert subprocess.run(["bash", "-c", verify], cwd=tmp_path, capture_output=True).returncode == 1
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
    expect(page.get_by_role("link", name=job, exact=True)).to_be_visible()
    expect(page).not_to_have_url(re.compile(job))
    page.get_by_role("button", name="Cancel").click()
    expect(status).to_contain_text("canceled")


def test_a_failure_says_why(obedient, browse, accessible):
    job = script_job(obedient, f"problem model.unsupported_op no {HOSTILE.replace(' ', '/')}")
    obedient.ended(job)
    page = browse(obedient, f"/#/jobs/{job}")
    expect(page.get_by_role("alert")).to_contain_text(HOSTILE.replace(" ", "/"))
    accessible(page)


# ---- layers ----

def column(page, index):
    return [text.strip() for text in page.get_by_role("table", name="Layers").locator(f"tbody tr:not(.space) td:nth-child({index})").all_inner_texts()]


def test_layers_are_sorted_and_the_order_is_in_the_address(daemon, jobs, browse, accessible, shot):
    page = browse(daemon, f"/#/jobs/{jobs[0]['id']}")
    page.get_by_role("link", name="Layers").click()
    rows = daemon("GET", f"/v1/jobs/{jobs[0]['id']}/layers").json()["data"]
    expect(page.get_by_role("table", name="Layers").locator("tbody tr:not(.space)")).to_have_count(len(rows))
    assert column(page, 2) == [r["name"] for r in rows] and any(HOSTILE in r["name"] for r in rows)
    accessible(page)
    shot(page, "layers")
    head = page.get_by_role("button", name="Isolated dB")
    head.click()
    worst = sorted(rows, key=lambda r: (r["isolated_sqnr_db"] is None, r["isolated_sqnr_db"]))
    assert column(page, 2) == [r["name"] for r in worst]
    expect(page).to_have_url(re.compile("sort=isolated_sqnr_db&order=asc"))
    head.click()
    assert column(page, 2)[0] == max((r for r in rows if r["isolated_sqnr_db"] is not None), key=lambda r: r["isolated_sqnr_db"])["name"]
    page.get_by_label("Name holds").fill("fc2")
    assert column(page, 2) and all("fc2" in name for name in column(page, 2))
    page.reload()
    expect(page.get_by_role("columnheader", name="Isolated dB")).to_have_attribute("aria-sort", "descending")
    assert column(page, 2) and all("fc2" in name for name in column(page, 2))
    # The bars are worst first, too.
    first = page.get_by_role("group", name="Worst first").get_by_role("link").first
    expect(first).to_have_attribute("href", f"#/jobs/{jobs[0]['id']}/layers/{worst[0]['index']}")
    with page.expect_download() as download:
        page.get_by_role("link", name="layers as CSV").click()
    assert len(list(csv.DictReader(download.value.path().read_text().splitlines()))) == len(rows)


def test_a_layer_shows_its_histograms_channels_and_codes(daemon, jobs, browse, accessible, shot):
    rows = daemon("GET", f"/v1/jobs/{jobs[0]['id']}/layers").json()["data"]
    linear = next(r for r in rows if HOSTILE in r["name"])
    softmax = next(r for r in rows if r["role"] == "attention_pv")
    details = daemon("GET", f"/v1/jobs/{jobs[0]['id']}/layers/{linear['index']}/details").json()
    page = browse(daemon, f"/#/jobs/{jobs[0]['id']}/layers/{linear['index']}")
    expect(page.get_by_role("heading", name=linear["name"], exact=True)).to_be_visible()
    for title in ("Weights", "Input. Values", "Input: ranges of its channels"):
        expect(page.get_by_role("img", name=title).first).to_be_visible()
    assert page.get_by_role("img", name="Input. Values").locator("line.clip").count() == 2
    with page.expect_download() as download:
        page.get_by_role("link", name="-weights as CSV").click()
    counted = [int(r["after"]) for r in csv.DictReader(download.value.path().read_text().splitlines())]
    assert counted == details["weight"]["histogram_after"]["counts"]
    accessible(page)
    shot(page, "layer")
    page.goto(f"/#/jobs/{jobs[0]['id']}/layers/{softmax['index']}")
    expect(page.get_by_role("img", name="log_sqrt2 codes").locator("rect")).to_have_count(16)
    accessible(page)
    shot(page, "layer-softmax")


# ---- the next recipe, a new job ----

def test_the_picker_makes_the_next_recipe_and_its_job(daemon, jobs, browse, accessible, shot):
    rows = daemon("GET", f"/v1/jobs/{jobs[0]['id']}/layers").json()["data"]
    hostile = next(r["name"] for r in rows if HOSTILE in r["name"])
    page = browse(daemon, f"/#/jobs/{jobs[0]['id']}/layers")
    go = page.get_by_role("button", name="New job with this recipe")
    expect(go).to_be_disabled()
    page.get_by_label(f"next recipe: {hostile}", exact=True).select_option("exclude")
    page.get_by_label("next recipe: blocks.0.fc2", exact=True).select_option("raise")
    page.get_by_label("next recipe: head", exact=True).select_option("raise")
    page.get_by_label("next recipe: head", exact=True).select_option("")
    expect(page.get_by_text("1 excluded, 1 raised to 8 bits.")).to_be_visible()
    shot(page, "picker")
    go.click()
    expect(page.get_by_role("heading", name="New job")).to_be_visible()
    expect(page.get_by_text("The data fit the model.")).to_be_visible()
    accessible(page)
    shot(page, "new")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="Verdict")).to_be_visible(timeout=60_000)
    job = daemon("GET", "/v1/jobs/" + page.url.rsplit("/", 1)[1]).json()
    assert job["recipe"] == jobs[0]["recipe"] | {"name": "repquant-w4a4-next", "exclude": [hostile],
                                                 "overrides": [{"match": "blocks.0.fc2", "weights": {"bits": 8}, "activations": {"bits": 8}}]}
    now = {r["name"]: r for r in daemon("GET", f"/v1/jobs/{job['id']}/layers").json()["data"]}
    assert now["blocks.0.fc2"]["actual_precision"] == "w8a8" and now["head"]["actual_precision"] == "w4a4"
    assert "excluded" in now[hostile]["skip_reason"]


DROP = """([base64, name]) => {
    const data = new DataTransfer(), bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    data.items.add(new File([bytes], name));
    document.querySelector("fieldset").dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
}"""


def test_a_job_is_made_from_files_and_watched_to_its_end(daemon, browse, accessible, tmp_path):
    for name in ("model.onnx", "calib.npz", "eval.npz"):
        (tmp_path / name).write_bytes((DIGITS / name).read_bytes())
    page = browse(daemon)
    page.get_by_role("link", name="New job").click()
    submit = page.get_by_role("button", name="Submit")
    expect(submit).to_be_disabled()
    for title, file in (("Model", "model.onnx"), ("Calibration data", "calib.npz"), ("Evaluation data (optional)", "eval.npz")):
        box = page.get_by_role("group", name=title, exact=True)
        if title == "Model":        # dropped on the box, the others are picked
            page.evaluate(DROP, [base64.b64encode((DIGITS / file).read_bytes()).decode(), file])
        else:
            box.get_by_label("or a file").set_input_files(DIGITS / file)
        expect(box.get_by_text(f"{file} is registered.")).to_be_visible()
    expect(page.get_by_text("The data fit the model.")).to_be_visible()
    page.get_by_label("Preset").select_option("percentile-w8a8")
    line = page.get_by_role("region", name="The job as a curl line").inner_text()
    ctl = page.get_by_role("region", name="The job as a line of repquantctl").inner_text()
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("Nothing stands in its way.")).to_be_visible(timeout=30_000)
    expect(page.get_by_text(re.compile(r"About [\d.]+ s and [\d.]+ MB of memory for 128 samples"))).to_be_visible()
    accessible(page)
    submit.click()
    expect(page.get_by_role("heading", name="model.onnx, percentile-w8a8")).to_be_visible()
    expect(page.get_by_role("status").first).to_contain_text("succeeded", timeout=60_000)
    expect(page.get_by_role("heading", name="Verdict")).to_be_visible()
    page.get_by_role("link", name="Queue").click()
    page.get_by_role("link", name="Mine").click()
    expect(page.get_by_role("table", name="Jobs").get_by_text("model.onnx").first).to_be_visible()
    # The line for a shell makes the same job.
    made = subprocess.run(["bash", "-c", line.replace("curl ", "curl -sS --noproxy '*' ", 1)], env={**os.environ, "REPQUANT_TOKEN": daemon.token},
                          check=True, capture_output=True, text=True)
    again, first = json.loads(made.stdout), daemon("GET", "/v1/jobs?limit=2").json()["data"][1]
    assert again["request"] == first["request"] and again["recipe"]["name"] == "percentile-w8a8"
    assert daemon.ended(again["id"], 120)["state"] == "succeeded"
    subprocess.run(["bash", "-c", ctl.replace("repquantctl", str(ROOT / "build" / "repquantctl"), 1)], check=True, capture_output=True, text=True, cwd=tmp_path,
                          env={**os.environ, "REPQUANT_TOKEN": daemon.token, "REPQUANT_URL": daemon.url, "no_proxy": "*"})
    assert (tmp_path / "out" / "model.onnx").exists()


def test_an_upload_goes_on_where_the_connection_broke_and_after_the_page_is_loaded_again(daemon, browse):
    page = browse(daemon, "/#/new")
    page.watch.expected = lambda m: "ERR_FAILED" in m.text
    cut, sent = [], []
    def patch(route):
        if route.request.method == "PATCH":
            sent.append(int(route.request.headers["upload-offset"]))
            if len(cut) < 2:
                cut.append(route.request.url)
                return route.abort()
        return route.continue_()
    page.route("**/v1/uploads/*", patch)
    box = page.get_by_role("group", name="Model", exact=True)
    content = (DIGITS / "model.onnx").read_bytes()
    box.get_by_label("or a file").set_input_files({"name": "again.onnx", "mimeType": "", "buffer": content})
    expect(box.get_by_text("again.onnx is registered.")).to_be_visible()
    assert sent == [0, 0, 0] and len(set(cut)) == 1
    # The file, begun by hand, is dropped again after a reload: one PATCH from the middle.
    page.evaluate("""([base64]) => { const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
        window.again = new File([bytes], "later.onnx", { lastModified: 7 }); }""", [base64.b64encode(content).decode()])
    tus = {"Tus-Resumable": "1.0.0"}
    begun = daemon("POST", "/v1/uploads", headers={**tus, "Upload-Length": str(len(content))}).headers["Location"]
    url = begun[begun.index("/v1/"):]
    part = daemon("PATCH", url, data=content[:1000], headers={**tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"})
    assert part.status_code == 204
    page.evaluate("([url, size]) => sessionStorage.setItem(`upload later.onnx ${size} 7`, url)", [url, len(content)])
    sent.clear()
    page.evaluate("""() => { const data = new DataTransfer(); data.items.add(window.again);
        document.querySelector("fieldset").dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true })); }""")
    expect(box.get_by_text("later.onnx is registered.")).to_be_visible()
    assert sent == [1000] and page.evaluate("sessionStorage.length") == 0


def test_a_keyboard_alone_makes_a_job(daemon, jobs, browse):
    page = browse(daemon, f"/#/new?from={jobs[1]['id']}")
    expect(page.get_by_text("The data fit the model.")).to_be_visible()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Submit":
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Verdict")).to_be_visible(timeout=60_000)


def test_what_is_wrong_with_a_recipe_is_said(daemon, jobs, browse):
    page = browse(daemon, f"/#/new?from={jobs[1]['id']}")
    text = page.get_by_label("or one of your own, as JSON")
    text.fill("{")
    expect(page.get_by_role("alert")).to_contain_text("The recipe is no JSON")
    page.watch.expected = lambda m: "422" in m.text or "400" in m.text
    text.fill(json.dumps(jobs[1]["recipe"] | {"target": "toaster"}))
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("/recipe/target")


# ---- compare ----

def test_two_jobs_are_compared(daemon, jobs, browse, accessible, shot):
    page = browse(daemon)
    compare = page.get_by_role("link", name="Compare")
    expect(compare).to_be_hidden()
    for job in jobs:
        page.get_by_role("checkbox", name=f"compare {job['id']}").check()
    compare.click()
    fields = page.get_by_role("table", name="Recipes")
    expect(fields.get_by_role("row").filter(has_text="weights.bits")).to_contain_text(re.compile("4.*8"))
    expect(fields.get_by_role("row").filter(has_text="target")).to_have_count(1)       # reconstruction.target; the runtime is the same
    top = page.get_by_role("table", name="Metrics").get_by_role("row").filter(has_text="top1")
    for job in jobs:
        expect(top).to_contain_text(f"{job['result']['metrics']['top1']['quantized']:g}")
    expect(page.get_by_role("img", name="Quality against size").locator("circle")).to_have_count(2)
    layers = page.get_by_role("table", name="Layers")
    expect(layers.get_by_role("row")).to_have_count(27)
    rows = [{r["name"]: r for r in daemon("GET", f"/v1/jobs/{j['id']}/layers").json()["data"]} for j in jobs]
    lost = {n: rows[1][n]["isolated_sqnr_db"] - r["isolated_sqnr_db"] for n, r in rows[0].items() if r["isolated_sqnr_db"] is not None}
    page.get_by_label("Measure").select_option("isolated_sqnr_db")
    page.get_by_label("Order").select_option("worse")
    worst = min(lost, key=lost.get)
    expect(layers.get_by_role("row").nth(1)).to_contain_text(worst)
    expect(layers.get_by_role("row").nth(1)).to_contain_text(f"({'+' if lost[worst] > 0 else ''}{lost[worst]:.2f}".rstrip("0").rstrip("."))
    accessible(page)
    shot(page, "compare")
    page.reload()
    expect(fields).to_be_visible()
    expect(layers.get_by_role("row").nth(1)).to_contain_text(worst)
    page.goto("/#/compare?jobs=job_1")
    expect(page.get_by_text("Choose two to six jobs")).to_be_visible()


# ---- administration ----

def test_a_token_is_made_shown_once_and_revoked(daemon, browse, accessible, shot):
    page = browse(daemon, "/#/admin")
    page.get_by_label("Name").fill(HOSTILE)
    page.get_by_label("Role").select_option("viewer")
    page.get_by_role("button", name="Make a token").click()
    token = page.get_by_text(re.compile("^rq_")).inner_text()
    ask = requests.Session()
    ask.trust_env = False
    asked = lambda: ask.get(daemon.url + "/v1/whoami", headers={"Authorization": f"Bearer {token}"})     # noqa: E731
    assert asked().json()["role"] == "viewer" and asked().json()["name"] == HOSTILE
    expect(page.get_by_role("table", name="Tokens").get_by_text(HOSTILE)).to_be_visible()
    expect(page.get_by_role("table", name="Teams").get_by_text("local")).to_be_visible()
    expect(page.get_by_role("table", name="Audit").get_by_text("/v1/session").first).to_be_visible()
    accessible(page)
    shot(page, "admin")
    page.get_by_role("button", name=f"Revoke {HOSTILE}").click()
    assert asked().status_code == 200       # it asks once more
    page.get_by_role("button", name=f"Revoke {HOSTILE}").click()
    expect(page.get_by_role("table", name="Tokens").get_by_text(HOSTILE)).to_have_count(0)
    assert asked().status_code == 401


def test_a_viewer_sees_no_button_that_would_be_refused(daemon, jobs, browse):
    token = daemon("POST", "/v1/tokens", json={"name": "guest", "role": "viewer"}).json()["token"]
    page = browse(daemon, f"/#/jobs/{jobs[0]['id']}", token=token)
    expect(page.get_by_role("heading", name="Verdict")).to_be_visible()
    for name in ("New job", "Administration"):
        expect(page.get_by_role("link", name=name)).to_have_count(0)
    for name in ("Cancel", "Retry"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)


# ---- many layers ----

def test_a_thousand_layers_are_all_found_by_scrolling_and_keep_what_is_picked(daemon, jobs, browse):
    """Of a real answer repeated.  Rows out of view do not exist; tests/browser/test_speed.py tells how smooth that is."""
    page = browse(daemon)
    rows = daemon("GET", f"/v1/jobs/{jobs[0]['id']}/layers").json()["data"]
    many = [{**rows[i % len(rows)], "index": i, "name": f"{rows[i % len(rows)]['name']}.{i}"} for i in range(1000)]
    page.route("**/v1/jobs/*/layers", lambda route: route.fulfill(json={"data": many, "next_cursor": None}))
    page.goto(f"/#/jobs/{jobs[0]['id']}/layers?sort=name")
    shown = page.get_by_role("table", name="Layers").locator("tbody tr:not(.space)")
    expect(shown.first).to_be_visible()
    page.get_by_role("button", name="#").click()
    page.get_by_label("next recipe: patch.0", exact=True).select_option("exclude")
    seen = set()
    while len(seen) < 1000:
        last = shown.last
        names = column(page, 2)
        assert len(names) < 100 and not set(names) <= seen
        seen.update(names)
        last.scroll_into_view_if_needed()
        if len(seen) < 1000:
            expect(shown.last).not_to_contain_text(names[-1])
    assert seen == {r["name"] for r in many}
    # The focus moves on with the rows; what it comes to is there.
    page.get_by_label(f"next recipe: {many[-1]['name']}", exact=True).focus()
    for _ in range(120):
        page.keyboard.press("Shift+Tab")
    assert many[939]["name"] in page.evaluate("document.activeElement.closest('tr').textContent")
    page.get_by_role("button", name="Layer").click()
    page.get_by_label("Name holds").fill("patch.0")
    expect(page.get_by_label("next recipe: patch.0", exact=True)).to_have_value("exclude")
