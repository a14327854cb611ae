// webhooks.js - URLs that are told what happens: make, try, change; what was sent to each, and once more.
import { actionButton, confirmedButton, h, number, problem, table, time } from "./dom.js";
import { all, get, may, post, remove } from "./api.js";
import { dataLinks } from "./chart.js";
import { every } from "./live.js";

const secret = (w) => h("div", { class: "note good" }, "The secret is shown this once: ", h("code", null, w.secret));
const called = (w) => w.name || w.url;

/** The section of the administration page. */
export async function webhooks(place, failed) {
    const list = h("div"), made = h("div", { role: "status" });
    const url = h("input", { id: "hook-url", type: "url", required: true, size: 40 });
    const name = h("input", { id: "hook-name", maxlength: 200 });
    function actions(w) {
        const path = `/v1/webhooks/${w.id}`, act = (text, what) =>
            actionButton(text, called(w), failed, async () => { await what(); await draw(); });
        return h("div", { class: "row" }, act("Ping", () => post(`${path}/ping`)),
            act(w.enabled ? "Disable" : "Enable", () => post(path, { enabled: !w.enabled }, "PATCH")),
            act("New secret", async () => made.replaceChildren(secret(await post(`${path}/rotate_secret`)))),
            confirmedButton("Delete", called(w), failed, async () => { await remove(path); await draw(); }));
    }
    async function draw() {
        const rows = await all("/v1/webhooks");
        list.replaceChildren(rows.length ? table("Webhooks", [
            { title: "Webhook", class: "name", cell: (w) => [h("a", { href: `#/webhooks/${w.id}` }, called(w)), w.name && h("div", { class: "soft" }, w.url)] },
            { title: "State", cell: (w) => w.enabled ? "enabled" : `disabled: ${w.disabled_reason || "by hand"}` },
            { title: "Job", class: "mono", cell: (w) => w.job_id ? h("a", { href: `#/jobs/${w.job_id}` }, w.job_id) : "all" },
            { title: "Waiting", n: true, cell: (w) => number(w.pending) }, { title: "Last delivered", cell: (w) => time(w.last_delivered_at) },
            { title: "Change", cell: actions },
        ], rows) : h("p", null, "There are no webhooks."));
    }
    async function submit(event) {
        event.preventDefault();
        failed.replaceChildren();
        try {
            made.replaceChildren(secret(await post("/v1/webhooks", { url: url.value, ...(name.value && { name: name.value }) })));
            url.value = name.value = "";
            await draw();
        } catch (e) {
            failed.replaceChildren(problem(e));
        }
    }
    place.append(h("h2", null, "Webhooks"), h("form", { class: "row", submit }, h("label", { for: "hook-url" }, "URL"), url,
        h("label", { for: "hook-name" }, "Called"), name, h("button", { class: "do main" }, "Make a webhook")), made, list);
    await draw();
}

/** A long answer is opened on request. */
function answer(text) {
    return text.length > 100 ? h("details", null, h("summary", null, text.slice(0, 80)), text) : text;
}

function attempts(d) {
    return d.log.length ? table(`Attempts of ${d.id}`, [{ title: "#", n: true, cell: (a) => a.attempt }, { title: "When", cell: (a) => time(a.at) },
        { title: "Took", n: true, cell: (a) => `${number(a.seconds, 3)} s` }, { title: "Status", n: true, cell: (a) => a.status || "–" },
        { title: "Answer or problem", class: "name", cell: (a) => a.problem ? `${a.problem.code}: ${a.problem.detail}` : answer(a.response || "–") }], d.log)
        : h("p", null, "There was no attempt yet.");
}

const states = [["", "All"], ["pending", "Pending"], ["delivered", "Delivered"], ["failed", "Failed"], ["blocked", "Blocked"]];
const fields = ["id", "event_id", "type", "subject", "state", "attempts", "created_at", "next_attempt_at", "ended_at"];

/** What was sent to one webhook; which state, and which delivery is open, are in the address. */
export async function webhookPage(place, { path: [id], query, signal, ready }) {
    const w = await get(`/v1/webhooks/${id}`, signal), failed = h("div"), list = h("div"), one = h("section", { "aria-label": "Delivery" });
    const state = query.get("state") || "", open = query.get("delivery"), path = `/v1/webhooks/${id}/deliveries`;
    const to = (more) => `#/webhooks/${id}?${new URLSearchParams({ ...(state && { state }), ...more })}`;
    let before = "", shown = "";
    function draw(rows) {
        list.replaceChildren(rows.length ? table("Deliveries", [
            { title: "Delivery", class: "mono", cell: (d) => h("a", { href: to({ delivery: d.id }) }, d.id) },
            { title: "Event", cell: (d) => d.type }, { title: "About", class: "mono", cell: (d) => d.subject }, { title: "State", cell: (d) => d.state },
            { title: "Attempts", n: true, cell: (d) => number(d.attempts) }, { title: "Made", cell: (d) => time(d.created_at) },
            { title: "Next", cell: (d) => time(d.next_attempt_at) }, { title: "Again", cell: (d) => may("webhooks:write")
                && actionButton("Redeliver", d.id, failed, async () => { await post(`${path}/${d.id}/redeliver`); await look(); }) }], rows)
            : h("p", null, "No deliveries here."), h("p", null, dataLinks(`${id}-deliveries`, [fields, ...rows.map((d) => fields.map((f) => d[f]))])));
    }
    async function look() {
        const { data } = await get(`${path}?limit=100${state && `&state=${state}`}`, signal), d = open && await get(`${path}/${open}`, signal);
        if (JSON.stringify(data) !== before)
            draw(data);
        before = JSON.stringify(data);
        if (d && JSON.stringify(d) !== shown)
            one.replaceChildren(h("h2", null, d.id), attempts(d), h("details", null, h("summary", null, "What is sent"),
                h("pre", { tabindex: "0" }, JSON.stringify(d.event, null, 1))));
        shown = JSON.stringify(d);
        ready();
    }
    const trouble = h("div");
    place.append(trouble, h("h1", null, called(w)), h("p", null, h("a", { href: "#/admin" }, "Administration"), ` · ${w.url}`), failed,
        !w.enabled && h("p", { class: "note warn" }, `It is disabled: ${w.disabled_reason || "by hand"}. Nothing is sent.`) || "",
        h("nav", { class: "tabs", "aria-label": "Which deliveries" }, states.map(([value, text]) =>
            h("a", { href: `#/webhooks/${id}${value && `?state=${value}`}`, "aria-current": value === state && "page" }, text))), one, list);
    await every(2000, signal, trouble, look);
}
