"""How soon pages are there and how smooth they are, by the browser's own measures.

Where others compute, the clock is not believed: see idle() and Frames.quiet()."""
import json
import os
import sqlite3
import time
from typing import NamedTuple

import pytest
from conftest import repeat_layers
from playwright.sync_api import expect

JOBS, LAYERS, RUNS = 10_000, 1_000, 3
DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

# Tells when the first row of a table was painted: the task behind the frame in which it was there.
FIRST_ROW = """new MutationObserver((_, o) => {
    if (!document.querySelector("tbody tr"))
        return;
    o.disconnect();
    requestAnimationFrame(() => setTimeout(() => performance.mark("rows")));
}).observe(document, { childList: true, subtree: true })"""
PAINTS = """() => new Promise((done) => {
    const told = () => ["first-contentful-paint", "rows"].flatMap((name) => performance.getEntriesByName(name).map((e) => e.startTime));
    const look = () => told().length === 2 ? done(told()) : setTimeout(look, 20);
    look();
})"""


def idle():
    """Whether the machine has had processors to spare."""
    return os.getloadavg()[0] < os.cpu_count() * 0.75


def ulid(ms, n):
    text = ""
    for value, digits in ((ms, 10), (n, 16)):
        text += "".join(DIGITS[value >> 5 * i & 31] for i in reversed(range(digits)))
    return text


def many_jobs(path, job):
    """The job's row 10,000 times, over the last day."""
    db = sqlite3.connect(path)
    names = [c[1] for c in db.execute("PRAGMA table_info(jobs)")]
    row = dict(zip(names, db.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()))
    now = time.time_ns() // 1000
    for i in range(JOBS):
        at = now - 86_400_000_000 * (JOBS - i) // JOBS
        times = {"queued_at": at, "running_at": at + 5_000_000, "succeeded_at": at + 9_000_000}
        db.execute(f"INSERT INTO jobs ({','.join(names)}) VALUES ({','.join('?' * len(names))})",
                   list({**row, **times, "id": f"job_{ulid(at // 1000, i)}"}.values()))
    db.commit()
    db.close()


@pytest.fixture
def full(make_daemon, fake_job):
    """A daemon that has run 10,000 jobs."""
    daemon = make_daemon(program=fake_job)
    job = daemon.ended(daemon.job("layer 1; result model.onnx M; result report.json {}; result details.json []")["id"])
    assert job["state"] == "succeeded" and daemon.stop() == 0
    many_jobs(next(daemon.data.glob("*.db")), job["id"])
    return daemon.start()


def test_the_queue_of_ten_thousand_jobs_is_painted_within_a_second(full, browse, shot):
    assert full("GET", "/v1/queue").json()["jobs"]["succeeded"] == JOBS + 1
    page = browse(full)
    page.add_init_script(FIRST_ROW)
    seen = []
    for _ in range(RUNS):
        page.goto("about:blank")
        page.goto(full.url + "/")
        seen.append(page.evaluate(PAINTS))
        expect(page.get_by_role("img", name="Jobs that waited")).to_be_visible()
    print("queue of", JOBS, "jobs: first paint and first row after", [[round(t) for t in both] for both in seen], "ms")
    shot(page, "queue-many")
    judged = max if idle() else min
    assert judged(first for first, _ in seen) < 1000 and judged(rows for _, rows in seen) < 1000


class Frames(NamedTuple):
    """Of a trace: its worst frame and how many were drawn; by the clock and by the processor's, the longest task of the main thread and all together."""
    worst: float
    drawn: int
    clock: tuple
    processor: tuple

    def quiet(self):
        """Whether the page had the processor whenever it wanted it: then the clock tells of the page and not of others."""
        return self.processor[1] > 0.9 * self.clock[1] or idle()

    def __str__(self):
        return (f"{self.drawn} frames, the worst {self.worst:.0f} ms; longest task {self.clock[0]:.0f} ms, {self.processor[0]:.0f} ms of processor time; "
                f"all tasks {self.clock[1]:.0f} ms, {self.processor[1]:.0f} ms of processor time{', quiet' if self.quiet() else ''}")


def clock(event):
    return event["dur"]


def processor(event):
    return event.get("tdur", event["dur"])


def frames(trace):
    events = json.loads(trace)["traceEvents"]
    mains = {(e["pid"], e["tid"]) for e in events if e.get("name") == "thread_name" and e["args"]["name"] == "CrRendererMain"}
    begun, drawn = {}, []
    for e in sorted((e for e in events if e.get("name") == "PipelineReporter" and e["pid"] in {pid for pid, _ in mains}), key=lambda e: e["ts"]):
        key = e["pid"], e.get("id2", {}).get("local") or e.get("id")
        if e["ph"] == "b":
            begun[key] = e["ts"], e["args"].get("frame_reporter", {}).get("state", "")
        elif e["ph"] == "e" and key in begun:
            at, state = begun.pop(key)
            if "PRESENTED" in state:
                drawn.append((e["ts"] - at) / 1000)
    tasks = [e for e in events if e.get("name") == "RunTask" and e.get("ph") == "X" and (e["pid"], e["tid"]) in mains]
    assert drawn and tasks
    return Frames(max(drawn), len(drawn), *((max(f(e) for e in tasks) / 1000, sum(f(e) for e in tasks) / 1000) for f in (clock, processor)))


CLICK = """(title) => new Promise((done) => {
    [...document.querySelectorAll("th button")].find((b) => b.textContent === title).click();
    requestAnimationFrame(() => setTimeout(done));
})"""
SCROLL = """async () => {
    const next = () => new Promise((done) => requestAnimationFrame(done));
    for (let at = 0; at < 120; at++) {
        scrollBy(0, 400);
        await next();
    }
    scrollTo(0, 0);
    await next();
}"""


TRACED = ["devtools.timeline", "disabled-by-default-devtools.timeline", "benchmark", "cc"]
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"


def test_a_thousand_layers_scroll_and_sort_without_a_long_frame(daemon, jobs, chromium, browse, shot):
    """
    Of a real answer repeated.  The trace is the browser's own; frames are those that it reports as presented.  On a machine with more to do than
    processors a frame's time tells of the others: there the page's own work is judged, the processor time of its longest task.  Each run is judged:
    the first one makes the rows, and it is the one that people see.
    """
    page = browse(daemon)
    repeat_layers(page, daemon, jobs[0]["id"], LAYERS)
    chromium.start_tracing(page=page, categories=TRACED)
    page.goto(f"/#/jobs/{jobs[0]['id']}/layers?sort=name")
    expect(page.get_by_role("table", name="Layers").locator("tbody tr").first).to_be_visible()
    page.evaluate(DRAWN)
    opened, seen = frames(chromium.stop_tracing()), []
    for _ in range(RUNS):
        chromium.start_tracing(page=page, categories=TRACED)
        page.evaluate(SCROLL)
        for title in ("Cosine", "Isolated dB", "Layer", "#"):
            page.evaluate(CLICK, title)
        seen.append(frames(chromium.stop_tracing()))
    print("1000 layers:", f"opened: {opened}", *seen, sep="\n  ")
    page.get_by_role("table", name="Layers").scroll_into_view_if_needed()
    shot(page, "layers-many", whole=False)
    assert opened.processor[0] < 100, opened
    for run in seen:
        assert run.drawn > 100 and run.processor[0] < 50, run       # the rest of a frame is for raster and for what puts it on the screen
        assert run.worst < 100 or not run.quiet(), run
