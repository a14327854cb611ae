"""A new job: from a picker's recipe, from files that are dragged, with the keyboard alone."""
import base64
import json
import os
import re
import subprocess

from conftest import DIGITS, HOSTILE, ROOT, choose, chosen, put
from playwright.sync_api import expect


def test_the_picker_makes_the_next_recipe_and_its_job(daemon, jobs, browse, accessible, shot):
    rows = daemon("GET", f"/v1/jobs/{jobs[0]['id']}/layers").json()["data"]
    hostile = next(r["name"] for r in rows if HOSTILE in r["name"])
    page = browse(daemon, f"/#/jobs/{jobs[0]['id']}/layers")
    go = page.get_by_role("button", name="New job with this recipe")
    expect(go).to_be_disabled()
    choose(page, hostile, "exclude")
    choose(page, "blocks.0.fc2", "raise")
    choose(page, "head", "raise")
    choose(page, "head", "")
    for layer, text in ((hostile, "exclude"), ("blocks.0.fc2", "8 bits"), ("head", "keep")):
        expect(chosen(page, layer, text)).to_be_visible()
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


def test_the_picker_is_used_with_the_keyboard(daemon, jobs, browse, accessible, shot):
    page = browse(daemon, f"/#/jobs/{jobs[0]['id']}/layers")
    expect(page.get_by_role("table", name="Layers")).to_be_visible()
    page.get_by_role("link", name="head", exact=True).focus()
    page.keyboard.press("Tab")
    expect(chosen(page, "head", "keep")).to_be_focused()
    page.keyboard.press("Enter")
    choices = page.get_by_role("combobox", name="next recipe: head", exact=True)
    expect(choices).to_be_focused()
    accessible(page)
    shot(page, "picker-open", whole=False)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(choices).to_have_value("exclude")
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("link", name="head", exact=True)).to_be_focused()
    expect(page.get_by_text("1 excluded, 0 raised to 8 bits.")).to_be_visible()
    page.keyboard.press("Tab")
    expect(chosen(page, "head", "exclude")).to_be_focused()
    accessible(page)
    shot(page, "picker-keyboard", whole=False)


def drag(page, place, path, drop=True):
    """Drags a file over a place as the desktop does: the browser itself finds what lies there."""
    place.scroll_into_view_if_needed()
    box, cdp = place.bounding_box(), page.context.new_cdp_session(page)
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "data": {"items": [], "files": [str(path)], "dragOperationsMask": 1}}
    for kind in ("dragEnter", "dragOver") + ("drop",) * drop:
        cdp.send("Input.dispatchDragEvent", {"type": kind, **at})
    cdp.detach()


# Writes down each text of the first status, and that the document stayed the same.
STATES = """() => { const seen = window.seen = []; new MutationObserver(() => {
    const now = document.querySelector("[role=status] .state");
    if (now && seen.at(-1) !== now.textContent)
        seen.push(now.textContent);
}).observe(document, { childList: true, subtree: true }); }"""


def test_a_job_is_made_from_files_and_watched_to_its_end(daemon, browse, accessible, shot, tmp_path):
    for name in ("model.onnx", "calib.npz", "eval.npz"):
        (tmp_path / name).write_bytes((DIGITS / name).read_bytes())
    page = browse(daemon)
    page.get_by_role("link", name="New job").click()
    submit = page.get_by_role("button", name="Submit")
    expect(submit).to_be_disabled()
    for title, file in (("Model", "model.onnx"), ("Calibration data", "calib.npz"), ("Evaluation data (optional)", "eval.npz")):
        box = page.get_by_role("group", name=title, exact=True)
        drag(page, box, tmp_path / file, drop=False)
        expect(box).to_have_class("over")
        drag(page, box, tmp_path / file)
        expect(box).not_to_have_class("over")
        expect(box.get_by_text(f"{file} is registered.")).to_be_visible()
    expect(page.get_by_text("The data fit the model.")).to_be_visible()
    page.get_by_label("Preset").select_option("percentile-w8a8")
    line = page.get_by_role("region", name="The job as a curl line").inner_text()
    ctl = page.get_by_role("region", name="The job as a line of repquantctl").inner_text()
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("Nothing stands in its way.")).to_be_visible(timeout=30_000)
    expect(page.get_by_text(re.compile(r"About [\d.]+ s and [\d.]+ MB of memory for 128 samples"))).to_be_visible()
    accessible(page)
    shot(page, "new-checked")
    page.evaluate(STATES)
    submit.click()
    expect(page.get_by_role("heading", name="model.onnx, percentile-w8a8")).to_be_visible()
    expect(page.get_by_role("status").first).to_contain_text("succeeded", timeout=60_000)
    seen = page.evaluate("window.seen")
    assert seen[-1] == "succeeded" and seen[0] in ("queued", "running") and sorted(set(seen)) == sorted(seen)
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


# Whether the page leaves a file that is dropped on its heading to the browser, which would open it in the page's place.
LEFT_TO_THE_BROWSER = """() => ["dragover", "drop"].map((kind) => {
    const data = new DataTransfer();
    data.items.add(new File(["x"], "model.onnx"));
    return document.querySelector("h1").dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
})"""


def test_a_file_dropped_beside_a_box_does_not_take_the_page_away(daemon, browse):
    page = browse(daemon, "/#/new")
    expect(page.get_by_role("heading", name="New job")).to_be_visible()
    assert page.evaluate(LEFT_TO_THE_BROWSER) == [False, False]
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("heading", name="Models")).to_be_visible()
    assert page.evaluate(LEFT_TO_THE_BROWSER) == [True, True]


def tab_to(page, selector):
    """Moves the focus by the keyboard alone."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"{selector} has the focus and does not show it"
            return
    raise AssertionError(f"the keyboard does not come to {selector}")


def test_a_keyboard_alone_makes_a_job(daemon, jobs, browse):
    """From the log-in to the verdict: a registered model, a file of one's own, a preset, a press of Enter."""
    model = put(daemon, "models", (DIGITS / "model.onnx").read_bytes(), "keyboard.onnx")
    page = browse(daemon, log_in=False)
    page.on("filechooser", lambda _: None)      # from here on: asked for in the same breath as the key, the key may be sooner
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type(daemon.token)
    page.keyboard.press("Enter")
    expect(page.get_by_role("table", name="Jobs")).to_be_visible()
    tab_to(page, "a[href='#/new']")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="New job")).to_be_visible()
    tab_to(page, "#model")
    page.keyboard.type("keyboard")
    expect(page.get_by_label("Registered").first).to_have_value(model)
    tab_to(page, "#data-file")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(DIGITS / "calib.npz")
    expect(page.get_by_text("calib.npz is registered.")).to_be_visible()
    expect(page.get_by_text("The data fit the model.")).to_be_visible()
    tab_to(page, "#recipe")
    page.keyboard.type("percentile-w8a8")
    tab_to(page, "button.main")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Verdict")).to_be_visible(timeout=60_000)
    job = daemon("GET", "/v1/jobs/" + page.url.rsplit("/", 1)[1]).json()
    assert job["request"]["model_id"] == model and job["recipe"]["name"] == "percentile-w8a8" and job["state"] == "succeeded"


def test_a_job_made_from_another_begins_with_its_recipe(daemon, jobs, browse):
    """Also after the page is loaded again, when what the picker kept for it has been used."""
    page = browse(daemon, f"/#/new?from={jobs[0]['id']}")
    preset, text = page.get_by_label("Preset"), page.get_by_label("or one of your own, as JSON")
    expect(preset).to_have_value("repquant-w4a4")
    assert json.loads(text.input_value()) == jobs[0]["recipe"]
    own = jobs[1]["recipe"] | {"exclude": ["head"]}
    inputs = {k: v for k, v in jobs[1]["request"].items() if k.endswith("_id")}
    made = daemon("POST", "/v1/jobs", json={**inputs, "type": "quantize", "recipe": own}).json()
    page.goto(f"/#/new?from={made['id']}")
    expect(preset).to_have_value("")
    assert json.loads(text.input_value()) == made["recipe"] and made["recipe"]["exclude"] == ["head"]
    assert daemon.ended(made["id"], 120)["state"] == "succeeded"


def test_what_is_wrong_with_a_recipe_is_said(daemon, jobs, browse):
    page = browse(daemon, f"/#/new?from={jobs[1]['id']}")
    text = page.get_by_label("or one of your own, as JSON")
    text.fill("{")
    expect(page.get_by_role("alert")).to_contain_text("The recipe is no JSON")
    page.watch.expected = lambda m: "422" in m.text or "400" in m.text
    text.fill(json.dumps(jobs[1]["recipe"] | {"target": "toaster"}))
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("/recipe/target")


def test_a_recipe_is_saved_for_the_team(daemon, jobs, browse, accessible, shot):
    page = browse(daemon, f"/#/new?from={jobs[1]['id']}")
    text, name, save = page.get_by_label("or one of your own, as JSON"), page.get_by_label("Save it for the team as"), page.get_by_role("button", name="Save")
    expect(save).to_be_disabled()
    text.fill(json.dumps(jobs[1]["recipe"] | {"exclude": ["head"]}))
    page.watch.expected = lambda m: "409" in m.text or "400" in m.text
    for refused in ("percentile-w8a8", "No Name"):
        name.fill(refused)
        save.click()
        expect(page.get_by_role("alert")).to_contain_text("/name")
    name.fill("heads-in-float")
    expect(page.get_by_role("alert")).to_have_count(0)
    name.press("Enter")
    expect(page.get_by_text("heads-in-float is saved.")).to_be_visible()
    assert page.url.endswith(f"/#/new?from={jobs[1]['id']}"), "Enter there asks for no job"
    expect(page.get_by_label("Preset or saved")).to_have_value("heads-in-float")
    accessible(page)
    shot(page, "saved-recipe")
    kept = daemon("GET", "/v1/recipes/heads-in-float").json()
    assert kept == jobs[1]["recipe"] | {"name": "heads-in-float", "exclude": ["head"]} == json.loads(text.input_value())
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="Verdict")).to_be_visible(timeout=60_000)
    job = daemon("GET", "/v1/jobs/" + page.url.rsplit("/", 1)[1]).json()
    assert job["recipe"] == kept
    page.goto("/#/new")
    page.get_by_label("Preset or saved").select_option("heads-in-float")
    expect(text).to_have_value(re.compile('"heads-in-float"'))
    assert json.loads(text.input_value()) == kept
    assert daemon("DELETE", "/v1/recipes/heads-in-float").status_code == 204
