// job.js - one job: the verdict, what happens now, what came out.
import { bytes, h, problem, seconds, state, table, time } from "./dom.js";
import { get, may, now, post } from "./api.js";
import { gantt } from "./chart.js";
import { copyable } from "./copy.js";
import { TERMINAL, watchJob } from "./live.js";
import { recipeText } from "./recipe.js";
import { verdict } from "./verdict.js";

const stages = ["preparing", "calibrating", "quantizing", "exporting", "evaluating"];
const KEPT = 1000;       // lines of the log

function files(id, artifacts) {
    const verify = artifacts.map((a) => `${a.digest.replace("sha256:", "")}  ${a.name}`).join("\n");
    return [h("h2", null, "Files"), table("Files", [
        { title: "File", cell: (a) => h("a", { href: a.urls.content, download: a.name }, a.name) },
        { title: "Size", n: true, cell: (a) => bytes(a.bytes) }, { title: "Digest", class: "mono", cell: (a) => a.digest }], artifacts),
    h("p", null, h("a", { href: `/v1/jobs/${id}/report?format=html` }, "The report as one page"), ", to keep or to send"),
    h("p", null, "This, run beside the downloaded files, compares their digests:"),
    copyable("Verify", () => `sha256sum --check <<'END'\n${verify}\nEND`).element];
}

/** Stages with when they began and how long they took, from the events of the last attempt. */
function timeline(job, events) {
    const began = new Map();
    for (const e of events)
        if (e.type === "job.started")
            began.clear();
        else if (e.type === "job.stage_changed")
            began.set(e.data.stage, e.at);
    const order = stages.filter((name) => began.has(name)), end = TERMINAL.map((name) => job.timestamps[name]).find(Boolean) || now().toISOString();
    const rows = order.map((name, i) => ({ name, at: began.get(name), end: i + 1 < order.length ? began.get(order[i + 1]) : end }));
    if (!rows.length)
        return [h("p", null, "No stage has begun.")];
    const since = (t) => (Date.parse(t) - Date.parse(rows[0].at)) / 1000;
    return [gantt("Stages", rows.map((r) => ({ name: r.name, from: since(r.at), to: since(r.end) })), { name: `${job.id}-stages` }),
        table("Stages", [{ title: "Stage", cell: (r) => r.name }, { title: "Began", cell: (r) => time(r.at) },
            { title: "Took", n: true, cell: (r) => seconds(r.at, r.end) }], rows)];
}

/** What a reader of the log wants to see; which is in the address. */
const levels = [["", "everything", () => true], ["steps", "no progress, no layers", (e) => !["job.progress", "job.layer_completed"].includes(e.type)],
    ["warnings", "warnings and failures", (e) => ["job.warning", "job.failed"].includes(e.type)]];

/** The log: lines as they come, the last ones kept, of the level that was chosen. */
function logOf(id, query, live) {
    const list = h("ol", { class: "timeline", tabindex: "0", "aria-label": "Log lines" }), kept = [];
    const level = h("select", { id: "level", change: () => {
        history.replaceState(null, "", `#/jobs/${id}${level.value ? `?log=${level.value}` : ""}`);
        list.replaceChildren(...kept.filter(wanted).map(logLine));
    } }, levels.map(([value, text]) => h("option", { value, selected: value === query.get("log") }, text)));
    const wanted = (e) => levels.find(([value]) => value === level.value)[2](e);
    function add(events) {
        kept.push(...events);
        kept.splice(0, kept.length - KEPT);
        const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 2;      // else somebody reads above
        list.append(...events.filter(wanted).slice(-KEPT).map(logLine));
        while (list.childElementCount > KEPT)
            list.firstElementChild.remove();
        if (atEnd)
            list.scrollTop = list.scrollHeight;
    }
    return { add, element: h("details", { open: live || query.has("log") }, h("summary", null, "Log"),
        h("p", { class: "row" }, h("label", { for: "level" }, "Show "), level, h("a", { href: `/v1/jobs/${id}/events?limit=1000` }, "Events as JSON")), list) };
}

function logLine(e) {
    const d = e.data || {}, what = e.type === "job.layer_completed" ? `layer ${d.index} ${d.layer ? d.layer.name : ""}`
        : e.type === "job.progress" ? `${d.done} of ${d.total}`
            : Object.entries(d).map(([k, v]) => `${k} ${typeof v === "object" ? JSON.stringify(v) : v}`).join(", ");
    const at = new Date(e.at).toTimeString().slice(0, 8) + e.at.slice(19, 23);       // here, like all times; no zone has other fractions
    return h("li", { class: "mono" }, h("time", { datetime: e.at, title: e.at }, at), ` ${e.type} ${what}`);
}

function actions(job, failed) {
    const act = (text, path, then) => h("button", { class: "do", click: async (event) => {
        event.target.disabled = true;
        try {
            then(await post(path));
        } catch (e) {
            failed.replaceChildren(problem(e));
            event.target.disabled = false;
        }
    } }, text);
    const live = !TERMINAL.includes(job.state);
    return may("jobs:write") && [live && job.state !== "canceling" && act("Cancel", job.urls.cancel, () => {}),
        ["failed", "canceled"].includes(job.state) && act("Retry", job.urls.retry, (again) => { location.hash = `#/jobs/${again.id}`; })];
}

export async function jobPage(place, { path: [id], query, signal, ready }) {
    const trouble = h("div"), told = h("div", { role: "status" }), buttons = h("div", { class: "row" }), failed = h("div"), done = h("div");
    const stage = h("div"), events = [];
    let drawn = null;       // the state that the buttons are for
    const first = await get(`/v1/jobs/${id}`, signal), log = logOf(id, query, !TERMINAL.includes(first.state));
    const model = await get(`/v1/models/${first.request.model_id}`, signal).catch(() => ({ name: first.request.model_id }));
    place.append(h("h1", null, h("bdi", null, model.name), `, ${first.recipe.name || first.recipe.method}`), h("p", { class: "mono" }, id,
        first.retry_of && [", again after ", h("a", { href: `#/jobs/${first.retry_of}` }, first.retry_of)]), trouble, told, buttons, failed, done,
    h("h2", null, "Stages"), stage, log.element,
    h("details", null, h("summary", null, "Recipe"), h("pre", { tabindex: "0" }, recipeText(first.recipe))));
    await watchJob(id, signal, trouble, (job, news) => {
        events.push(...news.filter((e) => e.type !== "job.progress" && e.type !== "job.layer_completed"));
        log.add(news);
        told.replaceChildren(h("p", null, state(job), `${job.stage ? ` ${job.stage}` : ""}${job.queue ? `, ${job.queue.ahead} ahead` : ""}, since `,
            time(job.timestamps[job.state] || job.created_at)),
        job.state === "running" ? h("progress", { max: 100, value: job.progress.percent, "aria-label": "progress" }) : "",
        job.problem ? problem(job.problem) : "");
        if (job.state !== drawn)
            buttons.replaceChildren(...[h("a", { href: `#/jobs/${id}/layers` }, "Layers"),
                h("a", { href: `#/jobs/${id}/repquant` }, "Norms and attention"), actions(job, failed)].flat().filter(Boolean));
        if (job.state !== drawn || !stage.matches(":hover, :focus-within"))
            stage.replaceChildren(...timeline(job, events));
        drawn = job.state;
        if (!TERMINAL.includes(job.state))
            ready();
    });
    const job = await get(`/v1/jobs/${id}`, signal);
    if (job.state !== "succeeded")
        return;
    const [layers, artifacts] = await Promise.all([get(`/v1/jobs/${id}/layers`, signal), get(job.urls.artifacts, signal)]);
    done.replaceChildren(...[verdict(job, layers.data), files(job.id, artifacts.data)].flat().filter(Boolean));
}
