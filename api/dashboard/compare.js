// compare.js - 2 to 6 jobs side by side: recipes, metrics, layers, accuracy against size.
import { bytes, h, number, table } from "./dom.js";
import { get } from "./api.js";
import { lines, pareto } from "./chart.js";
import { headline } from "./job.js";

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

/** Accumulated SQNR by layer name, in the order of the first job that has the name. */
function depth(layers) {
    const names = [...new Set(layers.flatMap((rows) => rows.map((l) => l.name)))];
    const of = layers.map((rows) => new Map(rows.map((l) => [l.name, l.accumulated_sqnr_db])));
    return { names, values: of.map((map) => names.map((n) => map.get(n))) };
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
    const { names, values } = depth(layers), best = jobs.map((j) => headline(j.result.metrics));
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
        h("h2", null, "Layers, accumulated SQNR in dB"), sideBySide("Layers", "Layer", jobs,
            values.map((column) => Object.fromEntries(names.map((n, i) => [n, number(column[i])])))));
}
