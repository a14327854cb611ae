"""The pages as people use them."""
import csv
import gzip
import re
import subprocess

import requests
from conftest import HOSTILE, ROOT, chart, choose, chosen, repeat_layers
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


def test_a_plot_follows_the_colours_of_the_page(daemon, jobs, browse):
    page = browse(daemon, f"/#/jobs/{jobs[0]['id']}/layers", color_scheme="light")
    seen = "[c.data.datasets[0].borderColor, c.scales.x.options.ticks.color, getComputedStyle(document.documentElement).getPropertyValue('--a').trim()]"
    light = chart(page, "Error over depth", seen)
    page.emulate_media(color_scheme="dark")
    dark = chart(page, "Error over depth", seen)
    assert light[0] == light[2] != dark[2] == dark[0] and light[1] != dark[1]


def test_the_whole_dashboard_is_small_and_parses_no_html(daemon):
    files = sorted((ROOT / "api" / "dashboard").iterdir())
    assert sum(len(gzip.compress(daemon("GET", f"/dashboard/{name}").content)) for name in [*(f.name for f in files), "chart.min.js"]) < 200_000
    for f in files:
        if f.suffix == ".js":
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\.style\b(?!\.height)|https?://", f.read_text()), f


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
    expect(page.locator("main")).not_to_have_attribute("aria-busy", "true")
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


# Heads and choices of the table that are wider than their cells, and so lie under their neighbours or are cut.
SQUEEZED = """() => [...document.querySelectorAll("table.window th button, table.window tbody button.pick")].filter((one) => {
    const cell = one.closest("th, td"), { paddingLeft, paddingRight } = getComputedStyle(cell);
    one.style.maxWidth = "none";
    const wide = one.offsetWidth;
    one.style.maxWidth = "";
    return wide > cell.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight) + 1;
}).map((one) => one.ariaLabel || one.textContent)"""


def test_layers_are_sorted_and_the_order_is_in_the_address(daemon, jobs, browse, accessible, shot):
    page = browse(daemon, f"/#/jobs/{jobs[0]['id']}")
    page.get_by_role("link", name="Layers").click()
    rows = daemon("GET", f"/v1/jobs/{jobs[0]['id']}/layers").json()["data"]
    expect(page.get_by_role("table", name="Layers").locator("tbody tr:not(.space)")).to_have_count(len(rows))
    assert column(page, 2) == [r["name"] for r in rows] and any(HOSTILE in r["name"] for r in rows)
    accessible(page)
    shot(page, "layers")
    assert page.evaluate(SQUEEZED) == []
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
    bars = page.get_by_role("figure").filter(has_text="Worst first")
    assert chart(page, "Worst first", "c.data.datasets[0].data") == [r["isolated_sqnr_db"] for r in worst[:12]]
    bars.get_by_text("The same as links").click()
    expect(bars.get_by_role("listitem").first.get_by_role("link")).to_have_attribute("href", f"#/jobs/{jobs[0]['id']}/layers/{worst[0]['index']}")
    page.get_by_label("Worst by").select_option("output_mse")
    assert chart(page, "Worst first: MSE", "[c.scales.x.type, ...c.data.datasets[0].data]") == [
        "logarithmic", *sorted((r["output_mse"] for r in rows if r["output_mse"]), reverse=True)[:12]]
    page.reload()
    expect(page.get_by_label("Worst by")).to_have_value("output_mse")
    page.get_by_label("Worst by").select_option("isolated_sqnr_db")
    with page.expect_download() as download:
        page.get_by_role("link", name="layers as CSV").click()
    assert len(list(csv.DictReader(download.value.path().read_text().splitlines()))) == len(rows)
    x, y = chart(page, "Worst first", "[c.getDatasetMeta(0).data[1].x - 2, c.getDatasetMeta(0).data[1].y]")
    bars.get_by_role("img").click(position={"x": x, "y": y})
    expect(page.get_by_role("heading", name=worst[1]["name"], exact=True)).to_be_visible()


def test_a_layer_shows_its_histograms_channels_and_codes(daemon, jobs, browse, accessible, shot):
    rows = daemon("GET", f"/v1/jobs/{jobs[0]['id']}/layers").json()["data"]
    linear = next(r for r in rows if HOSTILE in r["name"])
    softmax = next(r for r in rows if r["role"] == "attention_pv")
    details = daemon("GET", f"/v1/jobs/{jobs[0]['id']}/layers/{linear['index']}/details").json()
    page = browse(daemon, f"/#/jobs/{jobs[0]['id']}/layers/{linear['index']}")
    expect(page.get_by_role("heading", name=linear["name"], exact=True)).to_be_visible()
    for title in ("Weights", "Input. Values", "Input: ranges of its channels"):
        expect(page.get_by_role("img", name=title).first).to_be_visible()
    drawn = chart(page, "Input. Values", "c.data.datasets.map((set) => [set.label, set.data[0].x, set.data.length])")
    quantizer = details["activation"]["quantizer"]
    assert [x for label, x, _ in drawn if label == "clip"] == [quantizer["clip_low"], quantizer["clip_high"]]
    assert [(label, n) for label, _, n in drawn[:2]] == [(k, len(details["activation"][f"histogram_{k}"]["counts"]) + 1) for k in ("before", "after")]
    with page.expect_download() as download:
        page.get_by_role("link", name="-weights as CSV").click()
    counted = [int(r["after"]) for r in csv.DictReader(download.value.path().read_text().splitlines())]
    assert counted == details["weight"]["histogram_after"]["counts"]
    accessible(page)
    shot(page, "layer")
    page.goto(f"/#/jobs/{jobs[0]['id']}/layers/{softmax['index']}")
    codes = daemon("GET", f"/v1/jobs/{jobs[0]['id']}/layers/{softmax['index']}/details").json()["activation"]["codes"]
    assert chart(page, "log_sqrt2 codes", "c.data.datasets[0].data") == codes and len(codes) == 16
    accessible(page)
    shot(page, "layer-softmax")


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
    points = chart(page, "Quality against size", "c.data.datasets.map((set) => [set.data[0].x, set.data[0].y])")
    assert [y for _, y in points] == [job["result"]["metrics"]["top1"]["quantized"] for job in jobs] and points[0][0] < points[1][0]
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
    revoke, really = (page.get_by_role("button", name=f"{text} {HOSTILE}") for text in ("Revoke", "Really revoke?"))
    revoke.click()
    assert asked().status_code == 200       # it asks once more
    expect(really).to_have_text("Really revoke?")
    page.get_by_label("Name").focus()
    expect(revoke).to_have_text("Revoke")   # and forgets it
    revoke.click()
    really.click()
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
    many = repeat_layers(page, daemon, jobs[0]["id"], 1000)
    page.goto(f"/#/jobs/{jobs[0]['id']}/layers?sort=name")
    shown = page.get_by_role("table", name="Layers").locator("tbody tr:not(.space)")
    expect(shown.first).to_be_visible()
    page.get_by_role("button", name="#").click()
    choose(page, "patch.0", "exclude")
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
    chosen(page, many[-1]["name"], "keep").focus()
    for _ in range(120):
        page.keyboard.press("Shift+Tab")
    assert many[939]["name"] in page.evaluate("document.activeElement.closest('tr').textContent")
    page.get_by_role("button", name="Layer").click()
    page.get_by_label("Name holds").fill("patch.0")
    expect(chosen(page, "patch.0", "exclude")).to_be_visible()


def open_many(page, daemon, job, count=1000):
    """The page of so many layers, a real answer repeated; rows out of view do not exist."""
    many = repeat_layers(page, daemon, job, count)
    page.goto(f"/#/jobs/{job}/layers")
    shown = page.get_by_role("table", name="Layers").locator("tbody tr:not(.space)")
    page.get_by_role("table", name="Layers").locator("thead").scroll_into_view_if_needed()
    expect(shown.first).to_be_visible()
    return shown, [r["name"] for r in many]


def test_a_choice_that_is_open_survives_that_its_row_leaves_the_view(daemon, jobs, browse):
    page = browse(daemon)
    open_many(page, daemon, jobs[0]["id"])
    chosen(page, "patch.0", "keep").click()
    choices = page.get_by_label("next recipe: patch.0", exact=True)
    choices.select_option("exclude")
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(choices).to_have_count(0)
    page.evaluate("scrollTo(0, 0)")
    expect(chosen(page, "patch.0", "exclude")).to_be_visible()
    choose(page, "patch.0", "")
    expect(page.get_by_text("Nothing is picked.")).to_be_visible()


def test_the_rows_in_view_are_there_when_the_window_changes(daemon, jobs, browse):
    page = browse(daemon)
    open_many(page, daemon, jobs[0]["id"])
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight / 2)")
    middle = "document.elementFromPoint(innerWidth / 2, innerHeight / 2).closest('tr').className"
    page.wait_for_function(f"() => {middle} !== 'space'")
    page.set_viewport_size({"width": 1000, "height": 700})
    page.wait_for_function("() => innerHeight === 700")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate(middle) != "space"


def test_a_table_far_above_or_below_the_window_comes_back_whole(daemon, jobs, browse):
    """In a low window the plots are above it and the next recipe, a line for each layer that is picked, below."""
    page = browse(daemon)
    page.set_viewport_size({"width": 800, "height": 400})
    shown, names = open_many(page, daemon, jobs[0]["id"], 60)
    for i in range(12):
        page.get_by_role("button", name=f"keep, next recipe: {names[i]}", exact=True).scroll_into_view_if_needed()
        choose(page, names[i], "exclude")
    for end in ("0", "document.documentElement.scrollHeight", "0"):
        page.evaluate(f"scrollTo(0, {end})")
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        expect(shown).to_have_count(0)
    page.get_by_label("Name holds").fill(names[5])
    expect(chosen(page, names[5], "exclude")).to_be_visible()
    page.get_by_label("Name holds").fill("")
    page.get_by_role("table", name="Layers").locator("thead").scroll_into_view_if_needed()
    expect(chosen(page, names[0], "exclude")).to_be_visible()
