"""The dashboard in Debian's Chromium, against the real daemon and the real quantizer.

Every page of a test is watched: what the console calls an error, what the content security policy refuses and what is asked of
another host fails the test.  Screenshots go to build/browser; they are there to be looked at.
"""
import importlib.util
import io
import json
import os
import pathlib
import re
import shutil
import zipfile

import numpy as np
import onnx
import pytest
from axe_core_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect, sync_playwright

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SHOTS = ROOT / "build" / "browser"
DIGITS = ROOT / "examples" / "digits"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
READABLE = 10           # pixels from the top of a plot's letters to the foot
HOSTILE = "<img src=x onerror=alert(1)>"

_spec = importlib.util.spec_from_file_location("api_conftest", ROOT / "tests" / "api" / "conftest.py")
api = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(api)
fake_job, make_daemon = api.fake_job, api.make_daemon
expect.set_options(timeout=15_000)      # the machine may be busy


def start(tmp_path_factory, program, **options):
    return api.Daemon(tmp_path_factory.mktemp("daemon"), program, options).start()


@pytest.fixture(scope="session")
def daemon(tmp_path_factory):
    """Quantizes for real; its webhooks may go to this machine, where nobody listens."""
    d = start(tmp_path_factory, api.REPQUANT, **{"outbound-private": "127.0.0.1/32"})
    yield d
    assert d.stop() == 0
    shutil.rmtree(d.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def obedient(tmp_path_factory, fake_job):
    """Its jobs do what the test's script says (tests/tools/fake_job.c)."""
    d = start(tmp_path_factory, fake_job)
    yield d
    assert d.stop() == 0
    shutil.rmtree(d.folder, ignore_errors=True)


def hostile_model():
    """The example with a linear layer, a norm, an attention, a dimension and a producer of a hostile name."""
    model = onnx.load(str(DIGITS / "model.onnx"))
    for node in model.graph.node:
        for part, name in (("blocks.1/fc1", HOSTILE), ("blocks.3/norm1", f"{HOSTILE}norm"), ("blocks.3/attn", HOSTILE)):
            node.name = node.name.replace(part, name)
        node.input[:] = [name.replace("blocks.1.fc1", HOSTILE) for name in node.input]
    for weight in model.graph.initializer:
        weight.name = weight.name.replace("blocks.1.fc1", HOSTILE)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = HOSTILE
    model.producer_name = HOSTILE
    return model.SerializeToString()


def put(daemon, kind, content, name):
    answer = daemon("PUT", f"/v1/{kind}", params={"name": name}, data=content)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


@pytest.fixture(scope="session")
def jobs(daemon):
    """Two finished jobs of the example, quantized for real."""
    body = {"type": "quantize", "model_id": put(daemon, "models", hostile_model(), HOSTILE),
            "dataset_id": put(daemon, "datasets", (DIGITS / "calib.npz").read_bytes(), "calib"),
            "eval_dataset_id": put(daemon, "datasets", (DIGITS / "eval.npz").read_bytes(), "eval")}
    made = [daemon("POST", "/v1/jobs", json={**body, "recipe": r}).json()["id"] for r in ("repquant-w4a4", "percentile-w8a8")]
    ended = [daemon.ended(j, 120) for j in made]
    assert [j["state"] for j in ended] == ["succeeded"] * 2, ended
    return ended


@pytest.fixture(scope="session")
def pictures(daemon):
    """A zip of pictures, one of a hostile name."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for i, name in enumerate((f"{HOSTILE.replace('/', '')}.png", "b.png")):
            png = io.BytesIO()
            Image.fromarray(np.full((16, 16, 3), 40 + 100 * i, np.uint8)).save(png, "png")
            z.writestr(name, png.getvalue())
        z.writestr("preprocess.json", json.dumps({"resize": 8, "crop": 8, "mean": [0.5] * 3, "std": [0.5] * 3, "layout": "NCHW"}))
    return put(daemon, "datasets", out.getvalue(), HOSTILE)


@pytest.fixture(scope="session")
def chromium():
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])     # as root, in containers
        yield browser
        browser.close()


class Watch:
    """What must not happen on a page."""

    def __init__(self, page, origin):
        self.seen = []
        page.on("console", lambda m: self.seen.append(f"{m.type}: {m.text} {m.location}") if m.type in ("error", "warning") and not self.expected(m) else None)
        page.on("pageerror", lambda e: self.seen.append(f"exception: {e}"))
        page.on("dialog", lambda d: (self.seen.append(f"dialog: {d.message}"), d.dismiss()))
        page.on("request", lambda r: self.seen.append(f"asked {r.url}") if not r.url.startswith((origin + "/", "blob:" + origin, "data:")) else None)
        page.add_init_script("document.addEventListener('securitypolicyviolation', (e) => console.error('policy: ' + e.violatedDirective + ' ' + e.blockedURI))")

    @staticmethod
    def expected(message):
        """The browser calls the refusal an error by which the page learns that somebody has to log in."""
        return "401" in message.text and message.location["url"].endswith("/v1/session")


@pytest.fixture
def browse(chromium):
    """browse(daemon, path, scheme="light") opens a page in a browser of its own, logged in; its attribute `watch` tells what went wrong."""
    contexts, watches = [], []

    def make(daemon, path="/", log_in=True, token=None, **options):
        context = chromium.new_context(base_url=daemon.url, viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.watch = Watch(page, daemon.url)
        watches.append(page.watch)
        page.goto(path)
        if log_in:
            page.get_by_label("Token").fill(token or daemon.token)
            page.get_by_role("button", name="Log in").click()
            expect(page.get_by_role("button", name="Log out")).to_be_visible()
        return page

    yield make
    for context in contexts:
        context.close()
    assert [w.seen for w in watches if w.seen] == []


def repeat_layers(page, daemon, job, count):
    """Lets the page hear of so many layers, the job's own repeated; returns their rows."""
    rows = daemon("GET", f"/v1/jobs/{job}/layers").json()["data"]
    many = [{**rows[i % len(rows)], "index": i, "name": f"{rows[i % len(rows)]['name']}.{i}"} for i in range(count)]
    page.route("**/v1/jobs/*/layers", lambda route: route.fulfill(json={"data": many, "next_cursor": None}))
    return many


def smallest_print(page):
    """How many pixels high the smallest text of the page's plots is, where a chart is as large on the page as it was drawn."""
    return page.evaluate("""Math.min(...Object.values(Chart.instances).filter((chart) => chart.canvas.isConnected).flatMap((chart) =>
        Object.values(chart.scales).filter((scale) => scale.options.display !== false).map((scale) =>
            Chart.helpers.toFont(scale.options.ticks.font).size * chart.canvas.getBoundingClientRect().width / chart.width)))""")


def chart(page, name, what):
    """What Chart.js has drawn on the canvas of this name: an expression of its chart `c`."""
    canvas = page.get_by_role("img", name=name).first
    canvas.scroll_into_view_if_needed()
    page.wait_for_function("(canvas) => Chart.getChart(canvas)", arg=canvas.element_handle())
    return canvas.evaluate(f"(canvas) => {{ const c = Chart.getChart(canvas); return {what}; }}")


def choose(page, layer, value):
    """Picks in the table of layers what the next recipe does with one: the button gives way to the list while that has the focus."""
    page.get_by_role("button", name=re.compile(f", next recipe: {re.escape(layer)}$")).click()
    choices = page.get_by_label(f"next recipe: {layer}", exact=True)
    expect(choices).to_be_focused()
    choices.select_option(value)
    choices.blur()


def chosen(page, layer, text):
    return page.get_by_role("button", name=f"{text}, next recipe: {layer}", exact=True)


@pytest.fixture
def shot():
    def take(page, name, whole=True):
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"{name}.png", full_page=whole)
    return take


@pytest.fixture
def accessible():
    """accessible(page): axe-core finds no violation."""
    def check(page):
        found = Axe().run(page)["violations"]
        assert [(v["id"], v["help"], [n["html"][:200] for n in v["nodes"][:3]]) for v in found] == []
    return check
