"""The pages when something goes wrong for a while, stays open for long, or is used in an unusual order."""
import re
import time

import pytest
from conftest import DIGITS, choose, chosen, put
from playwright.sync_api import expect
from test_dashboard import script_job

SLOWLY = "stage quantizing; " + "; ".join(f"progress {i} 100; sleep 300" for i in range(1, 60)) + "; hang"


@pytest.fixture
def slow_job(obedient):
    """A job with something new to tell three times a second."""
    job = script_job(obedient, SLOWLY)
    yield job
    obedient("POST", f"/v1/jobs/{job}/cancel", json={})
    obedient.ended(job)


def tolerant(page, *statuses):
    """The browser calls each failure an error; those that the test itself makes are no surprise."""
    page.watch.expected = lambda m: "ERR_FAILED" in m.text or any(str(s) in m.text for s in (401, *statuses))


def fail_once(page, pattern, times=1, **answer):
    """The next `times` requests of this pattern are answered so, or not at all; returns what was refused."""
    refused = []
    def one(route):
        if len(refused) >= times:
            return route.fallback()
        refused.append(route.request.url)
        return route.fulfill(**answer) if answer else route.abort()
    page.route(pattern, one)
    return refused


def value(page):
    return float(page.get_by_role("progressbar", name="progress").get_attribute("value"))


@pytest.mark.parametrize("answer", [{"status": 502, "content_type": "text/html", "body": "<h1>Bad gateway</h1>"}, {"status": 429}, {}],
                         ids=["gateway", "too_many", "no_answer"])
def test_a_job_is_watched_on_after_a_failure(obedient, slow_job, browse, answer):
    page = browse(obedient, f"/#/jobs/{slow_job}")
    tolerant(page, 429, 502)
    expect(page.get_by_role("progressbar", name="progress")).to_be_visible()
    refused = fail_once(page, "**/events?*", **answer)
    expect(page.get_by_role("alert")).to_be_visible()
    seen = value(page)
    expect(page.get_by_role("alert")).to_have_count(0)
    page.wait_for_function("(seen) => document.querySelector('main progress').value > seen", arg=seen)
    assert len(refused) == 1


def test_the_queue_comes_back_whole_after_failures(obedient, slow_job, browse):
    page = browse(obedient, "/#/new")
    tolerant(page, 503)
    models = fail_once(page, "**/v1/models?*", status=503)
    days = fail_once(page, "**/v1/queue/history")
    page.clock.install()
    page.get_by_role("link", name="Queue").click()
    expect(page.get_by_role("alert").first).to_be_visible()
    page.clock.run_for(8_000)
    expect(page.get_by_role("table", name="Jobs").get_by_role("link", name=slow_job)).to_be_visible()
    page.clock.run_for(60_000)
    expect(page.get_by_role("img", name="Jobs that waited")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    assert len(models) == len(days) == 1


def test_who_may_not_see_models_sees_jobs(obedient, slow_job, browse):
    made = obedient("POST", "/v1/tokens", json={"name": "pipeline", "scopes": ["jobs:read", "jobs:write"]})
    assert made.status_code == 201, made.text
    page = browse(obedient, "/", token=made.json()["token"])
    expect(page.get_by_role("table", name="Jobs").get_by_role("link", name=slow_job)).to_be_visible()


def test_an_upload_waits_for_a_service_that_restarts(daemon, browse):
    page = browse(daemon, "/#/new")
    tolerant(page, 503)
    begun = fail_once(page, "**/v1/uploads")
    pieces = fail_once(page, "**/v1/uploads/*", times=2)
    box = page.get_by_role("group", name="Model", exact=True)
    box.get_by_label("or a file").set_input_files({"name": "patient.onnx", "mimeType": "", "buffer": (DIGITS / "model.onnx").read_bytes()})
    expect(box.get_by_text("patient.onnx is registered.")).to_be_visible()
    assert len(begun) == 1 and len(pieces) == 2


def hold(page, pattern, method):
    """Keeps requests of this kind until they are let go."""
    held = []
    page.route(pattern, lambda route: held.append(route) if route.request.method == method else route.fallback())
    return held


def test_no_job_is_made_before_its_files_are_there(daemon, jobs, browse):
    page = browse(daemon, f"/#/new?model={jobs[0]['request']['model_id']}")
    submit = page.get_by_role("button", name="Submit")
    expect(submit).to_be_enabled()
    held = hold(page, "**/v1/uploads", "POST")
    file = {"name": "both.npz", "mimeType": "", "buffer": (DIGITS / "calib.npz").read_bytes()}
    for title in ("Calibration data", "Evaluation data (optional)"):
        # One File for both, as a drop of the same file is: what is picked twice has two times.
        page.get_by_role("group", name=title, exact=True).evaluate("""(box, bytes) => { window.one ??= new File([new Uint8Array(bytes)], "both.npz", { lastModified: 7 });
            const data = new DataTransfer(); data.items.add(window.one);
            box.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true })); }""", list(file["buffer"]))
    expect(page.get_by_text("Uploading both.npz …")).to_have_count(2)
    for name in ("Submit", "Check"):
        expect(page.get_by_role("button", name=name)).to_be_disabled()
    assert len(held) == 1
    held[0].continue_()
    expect(page.get_by_text("both.npz is registered.")).to_have_count(2)
    expect(submit).to_be_enabled()
    chosen_ids = [page.locator(s).input_value() for s in ("#data", "#evaluation")]
    assert chosen_ids[0] == chosen_ids[1] != ""
    expect(page.locator(f"#data option[value={chosen_ids[0]}]")).to_have_count(1)


def test_several_files_at_once_are_refused_with_the_way_out(daemon, browse):
    page = browse(daemon, "/#/new")
    box = page.get_by_role("group", name="Model", exact=True)
    box.evaluate("""(box) => { const data = new DataTransfer(); for (const name of ["model.onnx", "model.onnx.data"]) data.items.add(new File(["x"], name));
        box.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true })); }""")
    expect(box.get_by_role("alert")).to_contain_text("repquantctl submit model.onnx model.onnx.data")


def test_the_focus_and_a_press_stay_while_a_job_runs(obedient, slow_job, browse):
    page = browse(obedient, f"/#/jobs/{slow_job}")
    cancel = page.get_by_role("button", name="Cancel")
    cancel.focus()
    seen = value(page)
    page.wait_for_function("(seen) => document.querySelector('main progress').value > seen + 1", arg=seen)
    expect(cancel).to_be_focused()
    other = script_job(obedient, "stage quantizing; progress 1 4; hang")
    page.get_by_role("link", name="Queue").click()
    link = page.get_by_role("table", name="Jobs").get_by_role("link", name=other)
    link.focus()
    seen = value_of(page, slow_job)
    page.wait_for_function("([id, seen]) => document.querySelector(`tr[data-key=${id}] progress`).value > seen", arg=[slow_job, seen])
    expect(link).to_be_focused()
    newest = script_job(obedient, "hang")
    expect(page.get_by_role("table", name="Jobs").locator("tbody tr").first).to_contain_text(newest)
    expect(link).to_be_focused()
    for job in (other, newest):
        obedient("POST", f"/v1/jobs/{job}/cancel", json={})
        obedient.ended(job)
    page.goto(f"/#/jobs/{slow_job}")
    box = cancel.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    seen = value(page)
    page.wait_for_function("(seen) => document.querySelector('main progress').value > seen", arg=seen)
    page.mouse.up()
    expect(page.get_by_role("status").first).to_contain_text("canceled")


def value_of(page, job):
    return float(page.locator(f"tr[data-key={job}] progress").get_attribute("value"))


def test_a_refused_cancel_can_be_tried_again(obedient, browse):
    job = script_job(obedient, "stage quantizing; progress 1 4; hang")
    page = browse(obedient, f"/#/jobs/{job}")
    tolerant(page, 503)
    fail_once(page, "**/cancel", status=503)
    cancel = page.get_by_role("button", name="Cancel")
    cancel.click()
    expect(page.get_by_role("alert")).to_be_visible()
    cancel.click()
    expect(page.get_by_role("status").first).to_contain_text("canceled")


def test_back_comes_to_the_first_page_and_the_skip_link_stays_on_its_own(daemon, browse):
    page = browse(daemon)
    expect(page.get_by_role("heading", name="Queue")).to_be_visible()
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("heading", name="Models")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Queue")).to_be_visible()
    page.goto("/#/models")
    skip = page.get_by_role("link", name="Skip to the content")
    skip.focus()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(page).to_have_url(re.compile("#/models$"))


def test_the_focus_comes_along_at_once_and_not_when_a_job_ends(obedient, browse):
    job = script_job(obedient, "stage quantizing; progress 1 4; sleep 3000; result model.onnx x; result report.json {}")
    page = browse(obedient)
    page.get_by_role("link", name=job).click()
    expect(page.locator("main")).to_be_focused()
    page.get_by_label("Show").focus()
    expect(page.get_by_role("status").first).to_contain_text("succeeded")
    expect(page.get_by_role("heading", name="Files")).to_be_visible()
    expect(page.get_by_label("Show")).to_be_focused()


def test_a_long_name_of_a_token_neither_hinders_nor_widens(daemon, jobs, browse):
    token = daemon("POST", "/v1/tokens", json={"name": "é" * 100, "role": "member"}).json()["token"]
    page = browse(daemon, f"/#/new?from={jobs[1]['id']}", token=token)
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="Verdict")).to_be_visible(timeout=60_000)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("link", name="Queue").click()
    page.get_by_role("link", name="Mine").click()
    expect(page.get_by_role("table", name="Jobs").locator("tbody tr")).to_have_count(1)


def test_a_model_of_a_long_name_is_registered(daemon, browse):
    page = browse(daemon, "/#/new")
    box = page.get_by_role("group", name="Model", exact=True)
    box.get_by_label("or a file").set_input_files({"name": "ä" * 103 + ".onnx", "mimeType": "", "buffer": (DIGITS / "model.onnx").read_bytes()})
    expect(box.get_by_text("is registered.")).to_be_visible()
    assert daemon("GET", "/v1/models?limit=1").json()["data"][0]["name"] == "ä" * 100


def test_a_raised_layer_is_excluded_no_more_and_picks_stay(daemon, jobs, browse):
    recipe = {**jobs[1]["recipe"], "name": "n" * 62, "exclude": ["head", "blocks.0.*"]}
    made = daemon("POST", "/v1/jobs", json={**{k: v for k, v in jobs[1]["request"].items() if k.endswith("_id")}, "type": "quantize", "recipe": recipe}).json()
    assert daemon.ended(made["id"], 120)["state"] == "succeeded"
    page = browse(daemon, f"/#/jobs/{made['id']}/layers")
    choose(page, "head", "raise")
    expect(page.get_by_text("A pattern of the recipe")).to_be_hidden()
    choose(page, "blocks.0.fc2", "raise")
    expect(page.get_by_text('blocks.0.fc2 is excluded by "blocks.0.*"')).to_be_visible()
    choose(page, "blocks.0.fc2", "")
    page.get_by_role("link", name="head", exact=True).click()
    expect(page.get_by_role("heading", name="head", exact=True)).to_be_visible()
    page.go_back()
    expect(chosen(page, "head", "8 bits")).to_be_visible()
    page.get_by_role("button", name="New job with this recipe").click()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="Verdict")).to_be_visible(timeout=60_000)
    job = daemon("GET", "/v1/jobs/" + page.url.rsplit("/", 1)[1]).json()
    assert (job["recipe"]["name"], job["recipe"]["exclude"]) == ("n" * 59 + "-next", ["blocks.0.*"])
    rows = {r["name"]: r for r in daemon("GET", f"/v1/jobs/{job['id']}/layers").json()["data"]}
    assert rows["head"]["actual_precision"] == "w8a8"


def test_an_ended_session_is_opened_again_over_the_page(daemon, jobs, browse, accessible, shot):
    page = browse(daemon, f"/#/new?from={jobs[1]['id']}")
    tolerant(page)
    text = page.get_by_label("or one of your own, as JSON")
    expect(text).to_be_visible()
    text.fill(text.input_value().replace(jobs[1]["recipe"]["name"], "kept-as-it-was"))
    page.context.clear_cookies()
    page.get_by_role("button", name="Submit").click()
    dialog = page.get_by_role("dialog", name="Log in")
    expect(dialog).to_be_visible()
    accessible(page)
    shot(page, "login-again")
    dialog.get_by_label("Token").fill(daemon.token)
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name=re.compile("kept-as-it-was"))).to_be_visible()
    page.get_by_role("link", name="Models").click()         # which asks for nothing by itself
    expect(page.get_by_role("heading", name="Models")).to_be_visible()
    page.context.clear_cookies()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_a_page_that_polls_is_there_again_after_the_log_in(obedient, slow_job, browse):
    page = browse(obedient, f"/#/jobs/{slow_job}")
    tolerant(page)
    expect(page.get_by_role("progressbar", name="progress")).to_be_visible()
    page.context.clear_cookies()
    with page.expect_response(lambda r: "/events?" in r.url and r.status == 401):
        page.get_by_role("button", name="Cancel").click()
    dialog = page.get_by_role("dialog", name="Log in")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Token").fill(obedient.token)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    expect(page.get_by_role("progressbar", name="progress")).to_be_visible()
    page.wait_for_function("(seen) => document.querySelector('main progress')?.value > seen", arg=value(page))


def test_a_log_in_that_is_put_away_leaves_no_page_that_has_stopped(obedient, slow_job, browse):
    page = browse(obedient, f"/#/jobs/{slow_job}")
    tolerant(page)
    expect(page.get_by_role("progressbar", name="progress")).to_be_visible()
    page.context.clear_cookies()
    with page.expect_response(lambda r: "/events?" in r.url and r.status == 401):
        page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog", name="Log in")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Log in")).to_have_count(0)
    expect(page.locator("main").get_by_role("heading", name="Log in")).to_be_visible()


def test_a_session_of_another_one_is_not_used_for_this_page(daemon, jobs, browse):
    page = browse(daemon, f"/#/new?from={jobs[1]['id']}")
    page.watch.expected = lambda m: "403" in m.text or "401" in m.text
    expect(page.get_by_role("button", name="Submit")).to_be_enabled()
    before = daemon("GET", "/v1/jobs?limit=1").json()["data"][0]["id"]
    other = page.context.new_page()
    other.goto("/")
    other.get_by_role("button", name="Log out").click()
    other.get_by_label("Token").fill(daemon("POST", "/v1/tokens", json={"name": "somebody else", "role": "member"}).json()["token"])
    other.get_by_role("button", name="Log in").click()
    expect(other.get_by_text("somebody else")).to_be_visible()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("banner").get_by_text("somebody else")).to_be_visible()
    assert daemon("GET", "/v1/jobs?limit=1").json()["data"][0]["id"] == before


def test_a_session_that_another_tab_began_is_taken_over(daemon, jobs, browse):
    page = browse(daemon, f"/#/new?from={jobs[1]['id']}")
    page.watch.expected = lambda m: "403" in m.text or "401" in m.text
    expect(page.get_by_role("button", name="Submit")).to_be_enabled()
    other = page.context.new_page()
    other.goto("/")
    other.get_by_role("button", name="Log out").click()
    other.get_by_label("Token").fill(daemon.token)
    other.get_by_role("button", name="Log in").click()
    expect(other.get_by_role("button", name="Log out")).to_be_visible()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="Stages")).to_be_visible()


def test_a_browser_that_keeps_no_cookie_is_told_so(daemon, browse):
    page = browse(daemon, log_in=False)
    page.route("**/v1/session", lambda route: route.fulfill(status=401 if route.request.method == "GET" else 201, json={}))
    page.get_by_label("Token").fill(daemon.token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("did not keep the session")


def test_times_are_those_of_the_reader_and_never_negative(obedient, slow_job, browse):
    page = browse(obedient, f"/#/jobs/{slow_job}", timezone_id="America/New_York")
    lines = page.get_by_role("list", name="Log lines").get_by_role("listitem")
    expect(lines.first).to_be_visible()
    at = lines.first.get_by_role("time")
    hour = page.evaluate("(at) => new Date(at).toLocaleTimeString('en-GB', { hour: '2-digit' })", at.get_attribute("datetime"))
    assert at.inner_text()[:2] == hour[:2] != at.get_attribute("datetime")[11:13]
    page.clock.set_fixed_time(time.time() * 1000 - 300_000)
    page.get_by_role("link", name="Queue").click()
    ran = page.locator(f"tr[data-key={slow_job}] td").last
    expect(ran).to_have_text(re.compile(r"^[1-9][\d.]* s$|^\d+ min"))
    told = page.evaluate("""async () => { const { seconds } = await import("/dashboard/dom.js");
        return [59.94, 59.96, 119.7, 3600, 93605, -3].map((n) => seconds(new Date(0).toISOString(), new Date(n * 1000).toISOString())); }""")
    assert told == ["59.9 s", "1 min 0 s", "2 min 0 s", "1 h 0 min", "1 d 2 h", "0 s"]


def test_the_place_in_the_queue_is_told_anew(obedient, browse):
    first = [script_job(obedient, "hang") for _ in range(6)]
    workers = obedient("GET", "/v1/queue").json()["workers"]
    page = browse(obedient, f"/#/jobs/{first[-1]}")
    expect(page.get_by_role("status").first).to_contain_text(f"{5 - workers} ahead")
    obedient("POST", f"/v1/jobs/{first[-2]}/cancel", json={})
    expect(page.get_by_role("status").first).to_contain_text(f"{4 - workers} ahead", timeout=40_000)
    for job in first:
        obedient("POST", f"/v1/jobs/{job}/cancel", json={})
        obedient.ended(job)


def test_a_page_that_stays_open_gathers_no_listeners(obedient, browse):
    page = browse(obedient)
    expect(page.get_by_role("heading", name="The last day")).to_be_visible()
    cdp = page.context.new_cdp_session(page)
    def listeners():
        cdp.send("HeapProfiler.collectGarbage")
        return next(m["value"] for m in cdp.send("Performance.getMetrics")["metrics"] if m["name"] == "JSEventListeners")
    cdp.send("Performance.enable")
    page.clock.install()
    page.clock.run_for(20_000)
    before = listeners()
    for _ in range(30):
        with page.expect_response("**/v1/queue"):
            page.clock.run_for(2_000)
    assert listeners() - before < 10


def test_ticks_stay_from_view_to_view_and_six_is_the_most(daemon, jobs, browse):
    page = browse(daemon)
    page.get_by_role("checkbox", name=f"compare {jobs[0]['id']}").check()
    page.get_by_role("link", name="Mine").click()
    page.get_by_role("link", name="All", exact=True).click()
    expect(page.get_by_role("checkbox", name=f"compare {jobs[0]['id']}")).to_be_checked()
    page.get_by_role("checkbox", name=f"compare {jobs[1]['id']}").check()
    expect(page.get_by_role("link", name="Compare")).to_be_visible()
    page.reload()
    expect(page.get_by_role("link", name="Compare")).to_be_visible()
    page.goto("/#/queue?compare=" + ",".join(f"job_{i}" for i in range(7)))
    expect(page.get_by_text("7 jobs are ticked; 6 at most can be compared.")).to_be_visible()
    expect(page.get_by_role("link", name="Compare")).to_be_hidden()


def test_the_audit_log_begins_with_the_newest(daemon, browse):
    page = browse(daemon, "/#/admin")
    numbers = page.get_by_role("table", name="Audit").locator("tbody tr td:first-child")
    expect(numbers.first).to_be_visible()
    seqs = [int(n.replace(",", "")) for n in numbers.all_inner_texts()]
    assert seqs == sorted(seqs, reverse=True) and len(seqs) > 1
    expect(page.get_by_text("the newest first")).to_be_visible()


def test_a_viewer_is_not_led_to_a_form_that_would_be_refused(daemon, jobs, browse):
    token = daemon("POST", "/v1/tokens", json={"name": "reader", "role": "viewer"}).json()["token"]
    page = browse(daemon, f"/#/models/{jobs[0]['request']['model_id']}", token=token)
    expect(page.get_by_role("heading", name="Operators")).to_be_visible()
    expect(page.get_by_role("link", name="New job with it")).to_have_count(0)
    page.goto(f"/#/jobs/{jobs[0]['id']}/layers")
    expect(page.get_by_role("table", name="Layers")).to_be_visible()
    expect(page.get_by_role("button", name="New job with this recipe")).to_have_count(0)


def test_a_name_cannot_turn_what_stands_beside_it(obedient, browse):
    job = obedient.job("hang", model_id=put(obedient, "models", b"#quantize hang\n", "safe\u202egnp.exe"))
    page = browse(obedient, f"/#/jobs/{job['id']}")
    expect(page.locator("h1 bdi")).to_have_text("safe\u202egnp.exe")
    obedient("POST", f"/v1/jobs/{job['id']}/cancel", json={})
    obedient.ended(job["id"])
