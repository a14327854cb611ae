// queue.js - what waits, what runs, what failed.
import { bytes, card, fitting, h, number, problem, renew, seconds, state, table, time } from "./dom.js";
import { all, get, may, now, passing, who } from "./api.js";
import { lines } from "./chart.js";
import { every, TERMINAL } from "./live.js";

const views = [
    { key: "", text: "All", filter: "" },
    { key: "running", text: "Running", filter: "state=running,canceling" },
    { key: "queued", text: "Queued", filter: "state=queued" },
    { key: "failed", text: "Failures", filter: "state=failed" },
    { key: "mine", text: "Mine", filter: "" },
];
const LABEL = 128;      // bytes that a label may have
const COMPARED = 6;     // jobs at most

/** Jobs made through these pages carry who made them. */
export function mine() {
    return fitting(who.name || "local", LABEL);
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
    return t.running ? seconds(t.running, end || now().toISOString()) : "–";
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
        load(jobs.queued, quota.max_queued, queue.oldest_queued_at ? `queued, for ${seconds(queue.oldest_queued_at, now().toISOString())}` : "queued"),
        quota.max_running !== null && load(used.running || 0, quota.max_running, "the team's running jobs"),
        card(number(jobs.failed), "failed"), card(number(jobs.succeeded), "succeeded"),
        load(used.bytes || 0, quota.max_bytes, "stored by the team", bytes), card(bytes(queue.room_bytes), "left on the disk"));
}

/** The last day, asked again every minute. */
async function lastDay(place, signal) {
    let before = "";
    const trouble = h("div"), plots = h("div");
    place.append(trouble, plots);
    await every(60000, signal, trouble, async () => {
        const { data } = await get("/v1/queue/history", signal), last = data[data.length - 1].at, said = JSON.stringify(data.map((p) => [p.depth, p.started]));
        const at = data.map((p) => (Date.parse(p.at) - Date.parse(last)) / 3600e3), labels = data.map((p) => p.at);
        if (said === before)
            return;
        before = said;
        plots.replaceChildren(h("h2", null, "The last day"), h("div", { class: "plots" },
            lines("Jobs that waited", "hours from now", "jobs", [{ name: "depth", values: data.map((p) => p.depth) }],
                { name: "queue-depth", labels, at, zero: true }),
            lines("How long they waited", "hours from now", "seconds", [{ name: "mean wait of those that began", values: data.map((p) => p.wait_seconds) }],
                { name: "queue-wait", labels, at, zero: true })));
    });
}

/** Names of the jobs' models; of one that is gone, or that we may not see, its id. */
async function modelNames(known, jobs) {
    const names = new Map([...known, ...(may("models:read") ? await all("/v1/models", 200) : []).map((m) => [m.id, m.name])]);
    async function nameOf(id) {
        try {
            return may("models:read") ? (await get(`/v1/models/${id}`)).name : id;
        } catch (e) {
            if (passing(e))
                throw e;
            return id;
        }
    }
    for (const { request: { model_id: id } } of jobs)
        if (!names.has(id))
            names.set(id, await nameOf(id));
    return names;
}

function rows(jobs, names, chosen) {
    const tick = (job) => Object.assign(h("input", { type: "checkbox", "aria-label": `compare ${job.id}`,
        change: (event) => { event.target.checked ? chosen.add(job.id) : chosen.delete(job.id); chosen.changed(); } }), { checked: chosen.has(job.id) });
    return table("Jobs", [
        { title: "Compare", cell: (j) => j.state === "succeeded" && tick(j) },
        { title: "Job", class: "mono", cell: (j) => h("a", { href: `#/jobs/${j.id}` }, j.id) },
        { title: "State", cell: state },
        { title: "Model", class: "name", cell: (j) => h("a", { href: `#/models/${j.request.model_id}` }, names.get(j.request.model_id)) },
        { title: "Progress or result", class: "name", cell: progress },
        { title: "Made", cell: (j) => time(j.created_at) },
        { title: "Ran", n: true, cell: lasted },
    ], jobs, (j) => j.id);
}

/** What leads on from here, with the jobs that are ticked: they stay so from view to view and page to page, since the address has them. */
function ways(view, query) {
    const chosen = new Set((query.get("compare") || "").split(",").filter((id) => /^job_\w+$/.test(id)));
    const compare = h("a", { class: "do" }, "Compare"), told = h("span", { role: "status" });
    const tabs = views.map((v) => h("a", { "aria-current": v === view && "page" }, v.text)), older = h("a", null, "Older jobs");
    const to = (more) => {
        const fields = new URLSearchParams(Object.entries({ ...more, compare: [...chosen].join(",") }).filter(([, value]) => value));
        return `#/queue${fields.size ? `?${fields}` : ""}`;
    };
    older.hidden = true;
    let next = null;
    function changed() {
        compare.hidden = chosen.size < 2 || chosen.size > COMPARED;
        compare.href = `#/compare?jobs=${[...chosen].join(",")}`;
        told.textContent = chosen.size > COMPARED ? `${chosen.size} jobs are ticked; ${COMPARED} at most can be compared.` : "";
        tabs.forEach((tab, i) => { tab.href = to({ view: views[i].key }); });
        older.hidden = !next;
        older.href = to({ view: view.key, cursor: next });
    }
    chosen.changed = () => {
        history.replaceState(null, "", to({ view: view.key, cursor: query.get("cursor") }));
        changed();
    };
    changed();
    return { chosen, compare, told, tabs, older, goesOn: (cursor) => { next = cursor; changed(); } };
}

export async function queuePage(place, { query, signal, ready }) {
    const view = views.find((v) => v.key === (query.get("view") || "")) || views[0], cursor = query.get("cursor");
    const filter = view.key === "mine" ? `label=${encodeURIComponent(`by:${mine()}`)}` : view.filter;
    const counts = h("div"), day = h("section"), list = h("div", { "aria-live": "off" }), trouble = h("div");
    const { chosen, compare, told, tabs, older, goesOn } = ways(view, query);
    place.append(h("h1", null, "Queue"), trouble, counts, h("nav", { class: "tabs", "aria-label": "Which jobs" }, tabs, compare, told), list,
        h("p", null, older), day);
    lastDay(day, signal).catch((e) => signal.aborted || day.replaceChildren(problem(e)));
    let names = new Map(), before = "";
    function draw(jobs) {
        const made = jobs.length ? rows(jobs, names, chosen) : h("p", null, "No jobs here."), shown = list.querySelector("table");
        if (shown && jobs.length)
            renew(shown, made.querySelector("table"));
        else
            list.replaceChildren(made);
    }
    await every(2000, signal, trouble, async () => {
        const [queue, team, page] = await Promise.all([get("/v1/queue", signal), get(`/v1/teams/${who.team}`, signal),
            get(`/v1/jobs?limit=50${filter && `&${filter}`}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`, signal)]);
        counts.replaceChildren(numbers(queue, team));
        const said = JSON.stringify(page);
        if (said !== before) {
            if (page.data.some((j) => !names.has(j.request.model_id)))
                names = await modelNames(names, page.data);
            draw(page.data);
            goesOn(page.next_cursor);
            before = said;
        }
        ready();
    });
}
