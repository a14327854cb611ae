// queue.js - what waits, what runs, what failed.
import { bytes, card, h, number, problem, seconds, state, table, time } from "./dom.js";
import { all, get, who } from "./api.js";
import { lines } from "./chart.js";
import { every, TERMINAL } from "./live.js";

const views = [
    { key: "", text: "All", filter: "" },
    { key: "running", text: "Running", filter: "state=running,canceling" },
    { key: "queued", text: "Queued", filter: "state=queued" },
    { key: "failed", text: "Failures", filter: "state=failed" },
    { key: "mine", text: "Mine", filter: "" },
];

/** Jobs made through these pages carry who made them. */
export function mine() {
    return who.name || "local";
}

function progress(job) {
    if (job.state === "running")
        return [h("progress", { max: 100, value: job.progress.percent, "aria-label": `progress of ${job.id}` }),
            ` ${job.stage || ""} ${number(job.progress.percent, 0)} %`];
    if (job.problem)
        return `${job.problem.code}: ${job.problem.detail}`;
    const m = job.result && job.result.metrics || {};
    return m.top1 ? `top-1 ${number(m.top1.quantized)} % of ${number(m.top1.float)} %` : m.logit_sqnr_db ? `${number(m.logit_sqnr_db.quantized, 1)} dB` : "";
}

function lasted(job) {
    const t = job.timestamps, end = TERMINAL.map((s) => t[s]).find(Boolean);
    return t.running ? seconds(t.running, end || new Date().toISOString()) : "–";
}

/** A number with what it is, and where it has a limit how near that is. */
function load(value, most, what, show = number) {
    const bounded = most !== null && most !== undefined;
    return h("li", { class: "card" }, h("b", null, show(value)), h("span", null, what, bounded ? `, of ${show(most)}` : ""),
        bounded && h("meter", { min: 0, max: Math.max(most, 1), value, high: most * 0.9, "aria-label": what }));
}

function numbers(queue, team) {
    const used = team.used || {}, quota = team.quota || {}, jobs = queue.jobs;
    return h("ul", { class: "cards" }, load(jobs.running + jobs.canceling, queue.workers, "running here"),
        load(jobs.queued, quota.max_queued, queue.oldest_queued_at ? `queued, for ${seconds(queue.oldest_queued_at, new Date().toISOString())}` : "queued"),
        quota.max_running !== null && load(used.running || 0, quota.max_running, "the team's running jobs"),
        card(number(jobs.failed), "failed"), card(number(jobs.succeeded), "succeeded"),
        load(used.bytes || 0, quota.max_bytes, "stored by the team", bytes), card(bytes(queue.room_bytes), "left on the disk"));
}

/** The last day, asked again every minute. */
async function lastDay(place, signal) {
    let before = "";
    await every(60000, signal, async () => {
        const { data } = await get("/v1/queue/history", signal), now = data[data.length - 1].at, said = JSON.stringify(data.map((p) => [p.depth, p.started]));
        const at = data.map((p) => (Date.parse(p.at) - Date.parse(now)) / 3600e3), labels = data.map((p) => p.at);
        if (said === before)
            return;
        before = said;
        place.replaceChildren(h("h2", null, "The last day"), h("div", { class: "plots" },
            lines("Jobs that waited", "hours from now", "jobs", [{ name: "depth", values: data.map((p) => p.depth) }],
                { name: "queue-depth", labels, at, zero: true }),
            lines("How long they waited", "hours from now", "seconds", [{ name: "mean wait of those that began", values: data.map((p) => p.wait_seconds) }],
                { name: "queue-wait", labels, at, zero: true })));
    });
}

/** Names of the jobs' models; of one that is gone its id. */
async function modelNames(known, jobs) {
    const names = new Map([...known, ...(await all("/v1/models", 200)).map((m) => [m.id, m.name])]);
    for (const { request: { model_id: id } } of jobs)
        if (!names.has(id))
            names.set(id, await get(`/v1/models/${id}`).then((m) => m.name, () => id));
    return names;
}

function rows(jobs, names, chosen) {
    const tick = (job) => h("input", { type: "checkbox", "aria-label": `compare ${job.id}`, checked: chosen.has(job.id),
        change: (event) => { event.target.checked ? chosen.add(job.id) : chosen.delete(job.id); chosen.changed(); } });
    return table("Jobs", [
        { title: "Compare", cell: (j) => j.state === "succeeded" && tick(j) },
        { title: "Job", class: "mono", cell: (j) => h("a", { href: `#/jobs/${j.id}` }, j.id) },
        { title: "State", cell: state },
        { title: "Model", class: "name", cell: (j) => h("a", { href: `#/models/${j.request.model_id}` }, names.get(j.request.model_id)) },
        { title: "Progress or result", class: "name", cell: progress },
        { title: "Made", cell: (j) => time(j.created_at) },
        { title: "Ran", n: true, cell: lasted },
    ], jobs);
}

export async function queuePage(place, { query, signal, ready }) {
    const view = views.find((v) => v.key === (query.get("view") || "")) || views[0], cursor = query.get("cursor");
    const filter = view.key === "mine" ? `label=${encodeURIComponent(`by:${mine()}`)}` : view.filter;
    const counts = h("div"), day = h("section"), list = h("div", { "aria-live": "off" }), chosen = new Set();
    const compare = h("a", { class: "do", hidden: true }, "Compare");
    chosen.changed = () => {
        compare.hidden = chosen.size < 2 || chosen.size > 6;
        compare.href = `#/compare?jobs=${[...chosen].join(",")}`;
    };
    place.append(h("h1", null, "Queue"), counts, h("nav", { class: "tabs", "aria-label": "Which jobs" }, views.map((v) =>
        h("a", { href: `#/queue${v.key ? `?view=${v.key}` : ""}`, "aria-current": v === view && "page" }, v.text)), compare), list, day);
    lastDay(day, signal).catch((e) => signal.aborted || day.replaceChildren(problem(e)));
    let names = new Map();
    let before = "";
    await every(2000, signal, async () => {
        try {
            const [queue, team, page] = await Promise.all([get("/v1/queue", signal), get(`/v1/teams/${who.team}`, signal),
                get(`/v1/jobs?limit=50${filter && `&${filter}`}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`, signal)]);
            counts.replaceChildren(numbers(queue, team));
            const now = JSON.stringify(page);
            if (now === before)
                return;
            before = now;
            if (page.data.some((j) => !names.has(j.request.model_id)))
                names = await modelNames(names, page.data);
            const older = new URLSearchParams(query);
            older.set("cursor", page.next_cursor);
            list.replaceChildren(page.data.length ? rows(page.data, names, chosen) : h("p", null, "No jobs here."),
                page.next_cursor && h("p", null, h("a", { href: `#/queue?${older}` }, "Older jobs")) || "");
        } catch (e) {
            if (e.status === 401 || signal.aborted)
                throw e;
            counts.replaceChildren(problem(e));
        }
        ready();
    });
}
