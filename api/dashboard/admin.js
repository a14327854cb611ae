// admin.js - tokens, teams with their quotas, webhooks, the audit log.
import { bytes, confirmedButton, h, number, problem, table, time } from "./dom.js";
import { all, get, may, post, remove, send, who } from "./api.js";
import { dataLinks } from "./chart.js";
import { webhooks } from "./webhooks.js";

const ROWS = 200;       // of the audit log

async function tokens(place, failed) {
    const list = h("div"), made = h("div", { role: "status" });
    const name = h("input", { id: "token-name", required: true, maxlength: 200 });
    const role = h("select", { id: "token-role" }, ["viewer", "member", "team_admin", may("admin") && "admin"].filter(Boolean)
        .map((r) => h("option", { value: r }, r)));
    async function draw() {
        const rows = await all("/v1/tokens");
        list.replaceChildren(table("Tokens", [
            { title: "Name", class: "name", cell: (t) => t.name }, { title: "Role", cell: (t) => t.role },
            { title: "Id", class: "mono", cell: (t) => t.id }, { title: "Made", cell: (t) => time(t.created_at) },
            { title: "Last used", cell: (t) => time(t.last_used_at) }, { title: "Ends", cell: (t) => time(t.expires_at) },
            { title: "Revoke", cell: (t) => t.id === who.token_id ? "this one" : confirmedButton("Revoke", t.name, failed, async () => {
                await remove(`/v1/tokens/${t.id}`);
                await draw();
            }) },
        ], rows));
    }
    async function submit(event) {
        event.preventDefault();
        failed.replaceChildren();
        try {
            const t = await post("/v1/tokens", { name: name.value, role: role.value });
            made.replaceChildren(h("div", { class: "note good" }, "This is shown once: ", h("code", null, t.token)));
            name.value = "";
            await draw();
        } catch (e) {
            failed.replaceChildren(problem(e));
        }
    }
    place.append(h("h2", null, "Tokens"), h("form", { class: "row", submit }, h("label", { for: "token-name" }, "Name"), name,
        h("label", { for: "token-role" }, "Role"), role,
        h("button", { class: "do main" }, "Make a token")), made, list);
    await draw();
}

async function teams(place, signal) {
    const rows = await Promise.all((await get("/v1/teams", signal)).data.map((t) => get(`/v1/teams/${t.name}`, signal)));
    const of = (used, most, show = number) => `${show(used || 0)}${most === null || most === undefined ? "" : ` of ${show(most)}`}`;
    place.append(h("h2", null, "Teams"), table("Teams", [
        { title: "Team", cell: (t) => t.name }, { title: "Running", n: true, cell: (t) => of(t.used.running, t.quota.max_running) },
        { title: "Queued", n: true, cell: (t) => of(t.used.queued, t.quota.max_queued) },
        { title: "Stored", n: true, cell: (t) => of(t.used.bytes, t.quota.max_bytes, bytes) }, { title: "Made", cell: (t) => time(t.created_at) },
    ], rows));
}

/** A page of the log, the newest rows first; which one is in the address. */
async function audit(place, query, signal) {
    const answer = await send("GET", `/v1/audit?order=desc&limit=${ROWS}&after=${Number(query.get("after")) || 0}`, { signal });
    const rows = (await answer.text()).trim().split("\n").filter(Boolean).map((line) => JSON.parse(line));
    const fields = ["seq", "at", "token", "peer", "method", "action", "target", "status", "code"];
    place.append(h("h2", null, "Audit"), h("p", { class: "row" }, `${rows.length} rows, the newest first.`,
        answer.headers.get("Link") && h("a", { href: `#/admin?after=${rows[rows.length - 1].seq}` }, "Older rows"),
        query.get("after") && h("a", { href: "#/admin" }, "The newest rows"), dataLinks("audit", [fields, ...rows.map((r) => fields.map((f) => r[f]))])),
        table("Audit", [
            { title: "#", n: true, cell: (r) => number(r.seq) }, { title: "When", cell: (r) => time(r.at) },
            { title: "Token", class: "mono", cell: (r) => r.token || "–" },
            { title: "Address", cell: (r) => r.peer || "–" }, { title: "What", class: "name", cell: (r) => `${r.method || ""} ${r.target || r.action || ""}` },
            { title: "Status", n: true, cell: (r) => r.code ? `${r.status} ${r.code}` : number(r.status) },
        ], rows));
}

export async function adminPage(place, { query, signal }) {
    const failed = h("div"), parts = [h("section"), h("section"), h("section"), h("section")];
    place.append(h("h1", null, "Administration"), failed, ...parts);
    await Promise.all([may("team:admin") && tokens(parts[0], failed), teams(parts[1], signal),
        may("webhooks:write") && webhooks(parts[2], failed), may("audit:read") && audit(parts[3], query, signal)]);
}
