"""What holds on every page, in the light and in the dark, on a wide screen and on a telephone: axe-core finds nothing, no page is wider than
its window, no page calls itself busy once it is there, and names that look like HTML are text."""
import re

import pytest
from conftest import HOSTILE, READABLE, ROOT, api, smallest_print
from playwright.sync_api import expect

WIDE, NARROW = 1280, 320        # 320 is what WCAG 1.4.10 asks of a page: no scrolling in two directions


@pytest.fixture(scope="module")
def hook(daemon):
    """A webhook of a hostile name that was called once, in vain."""
    made = daemon("POST", "/v1/webhooks", json={"url": "https://127.0.0.1:1024/", "name": HOSTILE})
    assert made.status_code == 201, made.text
    path = f"/v1/webhooks/{made.json()['id']}"
    delivery = daemon("POST", f"{path}/ping").json()["id"]
    yield made.json()["id"], delivery
    daemon("DELETE", path)


@pytest.fixture(scope="module")
def pages(daemon, jobs, pictures, hook):
    """Of each page: its address, what is seen once it is there, and whether it shows a hostile name."""
    job, other, model = jobs[0]["id"], jobs[1]["id"], jobs[0]["request"]["model_id"]
    rows = daemon("GET", f"/v1/jobs/{job}/layers").json()["data"]
    linear = next(r for r in rows if HOSTILE in r["name"] and r["role"] == "linear")
    probabilities = next(r for r in rows if HOSTILE in r["name"] and r["role"] == "attention_pv")
    return {
        "queue": ("/queue", ("table", "Jobs"), True),
        "queue-empty": ("/queue?view=failed", ("heading", "Queue"), False),
        "new": (f"/new?from={job}", ("table", "Checks"), True),
        "models": ("/models", ("table", "Models"), True),
        "model": (f"/models/{model}", ("table", "Jobs"), True),
        "datasets": ("/datasets", ("table", "Data sets"), True),
        "dataset": (f"/datasets/{jobs[0]['request']['dataset_id']}?model={model}", ("table", "Checks"), True),
        "dataset-pictures": (f"/datasets/{pictures}", ("heading", HOSTILE), True),
        "job": (f"/jobs/{job}?log=", ("table", "Files"), True),
        "layers": (f"/jobs/{job}/layers", ("table", "Layers"), True),
        "layer": (f"/jobs/{job}/layers/{linear['index']}", ("img", "Weights"), True),
        "layer-softmax": (f"/jobs/{job}/layers/{probabilities['index']}", ("img", "log_sqrt2 codes"), True),
        "repquant": (f"/jobs/{job}/repquant", ("img", "Channels behind blocks.0.norm1"), True),
        "compare": (f"/compare?jobs={job},{other}", ("table", "Layers"), True),
        "admin": ("/admin", ("table", "Audit"), True),
        "webhook": (f"/webhooks/{hook[0]}?delivery={hook[1]}", ("table", "Attempts"), True),
        "nowhere": ("/nowhere", ("heading", "There is no such page"), False),
    }


def test_the_list_of_pages_is_whole(pages):
    patterns = re.findall(r"pattern: /(.+?)/, show", (ROOT / "api" / "dashboard" / "app.js").read_text())
    assert len(patterns) > 10
    for pattern in patterns:
        assert any(re.match(pattern, address.split("?")[0]) for address, _, _ in pages.values()), pattern


# Plots whose numbers cannot be had.
WITHOUT_NUMBERS = """() => [...document.querySelectorAll("main figure:not(.preview)")].filter((one) => ["CSV", "JSON"].some((kind) =>
    ![...one.querySelectorAll("a[download]")].some((a) => a.textContent === kind))).map((one) => one.textContent.slice(0, 40))"""


# What a program says to itself and a page to nobody.
NOT_FOR_PEOPLE = """() => {
    const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode())
        if (["null", "undefined", "[object Object]"].includes(walk.currentNode.data.trim()))
            found.push(walk.currentNode.data);
    return found;
}"""


# What reaches farthest to the right.
WIDEST = """() => [...document.querySelectorAll("main *")].filter((one) => !one.closest(".scroll")).map((one) => [one.getBoundingClientRect().right, `${one.tagName} ${one.className} ${
    one.textContent.slice(0, 40)}`]).sort(([a], [b]) => b - a)[0]"""


def look(page, name, accessible, shot, kind, seen, hostile):
    """What is wrong with the page that is shown."""
    expect(page.get_by_role(seen[0], name=seen[1]).first).to_be_visible()
    expect(page.locator("main")).not_to_have_attribute("aria-busy", "true")
    if hostile:
        expect(page.locator("main")).to_contain_text(HOSTILE)
    faults = []
    wide = page.evaluate("document.documentElement.scrollWidth")
    if wide > page.viewport_size["width"]:
        faults.append(f"{name}: {wide} wide, {page.evaluate(WIDEST)}")
    if page.locator("main canvas").count() and smallest_print(page) < READABLE:
        faults.append(f"{name}: text of {smallest_print(page)} pixels in a plot")
    bare = page.evaluate(WITHOUT_NUMBERS)
    if bare:
        faults.append(f"{name}: no CSV and JSON of {bare}")
    loose = page.evaluate(NOT_FOR_PEOPLE)
    if loose:
        faults.append(f"{name}: {loose} is shown")
    if page.locator("main [src=x], main [onerror]").count():
        faults.append(f"{name}: a name became an element")
    try:
        accessible(page)
    except AssertionError as e:
        faults.append(f"{name}: {e}")
    shot(page, f"every-{name}-{kind}")
    return faults


@pytest.mark.parametrize("scheme, width", [("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)])
def test_every_page(daemon, pages, browse, accessible, shot, scheme, width):
    page = browse(daemon, color_scheme=scheme, log_in=False)
    page.set_viewport_size({"width": width, "height": 800})
    kind = f"{scheme}-{width}"
    faults = look(page, "login", accessible, shot, kind, ("heading", "Log in"), False)
    page.get_by_label("Token").fill(daemon.token)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Queue")).to_be_visible()
    for name, (address, seen, hostile) in pages.items():
        page.goto("/#" + address)
        faults += look(page, name, accessible, shot, kind, seen, hostile)
    assert faults == []


# Each is what a fault of a page could do; the last one leaves the page.
FAULTS = {
    "console": "console.error('told')",
    "exception": "setTimeout(() => { throw new Error('thrown'); })",
    "dialog": "setTimeout(() => alert('shown'))",
    "policy": "new Image().src = 'http://elsewhere.test/x.png'",
    "another host": "location.href = 'http://127.0.0.1:1024/'",
}
NOTICED = {
    "console": "error: told", "exception": "exception: thrown", "dialog": "dialog: shown",
    "policy": "error: policy: img-src http://elsewhere.test/x.png", "another host": "asked http://127.0.0.1:1024/",
}


def test_what_must_not_happen_is_noticed(daemon, browse, accessible):
    """The watch over all pages, and axe-core's, would be no tests if they never saw anything."""
    page = browse(daemon)
    expect(page.get_by_role("heading", name="Queue")).to_be_visible()
    accessible(page)
    page.evaluate("document.querySelector('main').append(Object.assign(new Image(), { src: 'data:image/gif;base64,R0lGODlhAQABAAAAACw=' }))")
    with pytest.raises(AssertionError, match="image-alt"):
        accessible(page)
    assert page.watch.seen == []
    for fault, script in FAULTS.items():
        page.evaluate(script)
        api.until(lambda: any(NOTICED[fault] in seen for seen in noticed(page)), what=f"{fault}: {page.watch.seen}")
    page.watch.seen.clear()


def noticed(page):
    """What the watch has seen, once the browser's events have been heard."""
    page.wait_for_timeout(50)
    return page.watch.seen
