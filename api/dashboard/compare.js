// compare.js - 2 to 6 jobs side by side: recipes, metrics, layers, accuracy against size.
import { bytes, h, number, table } from "./dom.js";
import { get } from "./api.js";
import { dataLinks, lines, pareto } from "./chart.js";
import { headline } from "./verdict.js";

/** A recipe as one level of "weights.bits": value. */
function flat(value, prefix = "", into = {}) {
    for (const [key, v] of Object.entries(value))
        if (v && typeof v === "object" && !Array.isArray(v))
            flat(v, `${prefix}${key}.`, into);
        else
            into[prefix + key] = JSON.stringify(v);
    return into;
}

/** One row for each of the names that any of the maps has. */
function sideBySide(caption, what, jobs, maps, different) {
    const names = [...new Set(maps.flatMap((m) => Object.keys(m)))].filter((n) => !different || new Set(maps.map((m) => m[n])).size > 1);
    return names.length ? table(caption, [{ title: what, class: "name", cell: (n) => n },
        ...jobs.map((job, i) => ({ title: job.label, cell: (n) => maps[i][n] === undefined ? "–" : maps[i][n] }))], names) : h("p", null, "No difference.");
}

function metrics(job) {
    const m = job.result.metrics || {};
    return { ...Object.fromEntries(Object.entries(m).map(([name, v]) => [name, number(v.quantized, 4)])),
        size: bytes(job.result.bytes_after), seconds: number(job.result.seconds, 1) };
}

/** A measure by layer name, in the order of the first job that has the name. */
function byLayer(layers, measure) {
    const names = [...new Set(layers.flatMap((rows) => rows.map((l) => l.name)))];
    const of = layers.map((rows) => new Map(rows.map((l) => [l.name, l[measure]])));
    return { names, values: of.map((map) => names.map((n) => map.get(n))) };
}

const measures = [["accumulated_sqnr_db", "accumulated SQNR, dB"], ["isolated_sqnr_db", "SQNR of the layer alone, dB"],
    ["weight_sqnr_db", "SQNR of the weights, dB"], ["bytes_after", "bytes"]];
const orders = [["", "as in the model"], ["worse", "what the last job lost first"], ["better", "what it gained first"]];
const given = (v) => v !== null && v !== undefined;

/** The layers' table: the first job's values, and how the others differ from them.  Measure and order are in the address. */
function deltas(jobs, layers, query) {
    const place = h("div"), choice = h("select", { id: "measure", change: draw }, measures.map(([key, text]) =>
        h("option", { value: key, selected: key === query.get("measure") }, text)));
    const order = h("select", { id: "order", change: draw }, orders
        .map(([key, text]) => h("option", { value: key, selected: key === query.get("order") }, text)));
    function draw() {
        const { names, values } = byLayer(layers, choice.value), last = values[values.length - 1], delta = (column, i) =>
            given(column[i]) && given(values[0][i]) ? column[i] - values[0][i] : null;
        const at = [...names.keys()], sign = order.value === "worse" ? 1 : -1;
        if (order.value)
            at.sort((a, b) => (delta(last, a) === null) - (delta(last, b) === null) || sign * (delta(last, a) - delta(last, b)));
        const show = (column, i) => [number(column[i]), column !== values[0] && delta(column, i) !== null &&
            h("span", { class: "soft" }, ` (${delta(column, i) > 0 ? "+" : ""}${number(delta(column, i))})`)];
        place.replaceChildren(table("Layers", [{ title: "Layer", class: "name", cell: (i) => names[i] },
            ...jobs.map((job, k) => ({ title: job.label, n: true, cell: (i) => show(values[k], i) }))], at),
        h("p", null, dataLinks(`compare-${choice.value}`, [["layer", ...jobs.map((j) => j.id)], ...at.map((i) => [names[i], ...values.map((v) => v[i])])])));
        const address = new URLSearchParams({ jobs: jobs.map((j) => j.id).join(","), measure: choice.value, ...(order.value && { order: order.value }) });
        history.replaceState(null, "", `#/compare?${address}`);
    }
    draw();
    return [h("h2", null, "Layers"), h("p", { class: "row" }, h("label", { for: "measure" }, "Measure"), choice, h("label", { for: "order" }, "Order"), order,
        "In brackets: the difference to the first job."), place];
}

export async function comparePage(place, { query, signal }) {
    const ids = (query.get("jobs") || "").split(",").filter((id) => /^job_\w+$/.test(id));
    place.append(h("h1", null, "Compare"));
    if (ids.length < 2 || ids.length > 6) {
        place.append(h("p", null, "Choose two to six jobs in the ", h("a", { href: "#/queue" }, "queue"), "."));
        return;
    }
    const jobs = await Promise.all(ids.map((id) => get(`/v1/jobs/${id}`, signal)));
    if (jobs.some((j) => j.state !== "succeeded")) {
        place.append(h("p", null, "Only jobs that have succeeded can be compared."));
        return;
    }
    const layers = (await Promise.all(ids.map((id) => get(`/v1/jobs/${id}/layers`, signal)))).map((l) => l.data);
    jobs.forEach((job, i) => { job.label = `${i + 1}: ${job.recipe.name}`; });
    const { names, values } = byLayer(layers, "accumulated_sqnr_db"), best = jobs.map((j) => headline(j.result.metrics));
    const measure = ["top1", "perplexity", "logit_sqnr_db"].find((n) => jobs.every((j) => j.result.metrics && j.result.metrics[n]));
    const lower = measure === "perplexity" ? -1 : 1;        // the upper edge is the better one
    const entry = (j, i) => h("li", null, h("a", { href: `#/jobs/${j.id}` }, j.id), ` ${j.recipe.name}`, best[i] && `: ${best[i].title} ${best[i].quantized}`);
    place.append(h("ol", null, jobs.map(entry)),
        h("div", { class: "plots" }, measure && pareto("Quality against size", "bytes", lower < 0 ? "-perplexity" : measure,
            jobs.map((j) => ({ label: j.label, x: j.result.bytes_after, y: lower * j.result.metrics[measure].quantized })), { name: "compare" }),
        lines("Accumulated error over depth", "layer", "SQNR dB", jobs.map((j, i) => ({ name: j.label, values: values[i] })),
            { name: "compare-layers", labels: names })),
        h("h2", null, "Metrics"), sideBySide("Metrics", "Metric", jobs, jobs.map(metrics)),
        h("h2", null, "Where the recipes differ"), sideBySide("Recipes", "Field", jobs, jobs.map((j) => flat(j.recipe)), true),
        ...deltas(jobs, layers, query));
}
