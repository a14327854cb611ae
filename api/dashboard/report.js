// report.js - the report as one page that needs no network: of the same parts as the dashboard's pages, from numbers that lie in the page itself.
// The Makefile puts these parts and this one behind each other, as offline.js; api/report_html.c puts that, Chart.js and the numbers into the page.
import { facts, h, number, table, time } from "./dom.js";
import { bars, dataLinks } from "./chart.js";
import { columns, errorPlots, layerCell } from "./overview.js";
import { verdict } from "./verdict.js";

const { job, model, dataset, metrics, layers, warnings } = JSON.parse(document.getElementById("numbers").textContent);

function factsOf() {
    const rows = [["Job", job.id], ["Model", model], ["Calibration", dataset], ["Finished", time(job.timestamps.succeeded)],
        ["Engine", job.engine ? job.engine.version : "unknown"]];
    return facts(rows);
}

/** Bytes of the largest layers, before and after; the files' numbers are of all. */
function sizes() {
    const largest = layers.filter((l) => l.bytes_before > 0).sort((a, b) => b.bytes_before - a.bytes_before);
    return largest.length > 0 && bars("Largest layers: bytes of their weights after", "bytes", largest.map((l) => ({ label: l.name, value: l.bytes_after })),
        { name: `${job.id}-bytes`, most: 12, show: (v) => number(v, 0) });
}

const all = [columns.map((c) => c.key), ...layers.map((l) => columns.map((c) => l[c.key]))];
document.getElementById("main").replaceChildren(...[h("h1", null, `${model}, ${job.recipe && job.recipe.name || "quantized"}`), factsOf(),
    verdict({ ...job, result: { ...job.result, metrics } }, layers),
    warnings.length > 0 && [h("h2", null, "Warnings"), h("ul", null, warnings.map((w) => h("li", null, h("code", null, w.code), " ", w.detail)))],
    layers.length > 0 && [h("h2", null, "Where the errors are"), errorPlots(job.id, layers), h("h2", null, "Where the bytes are"), sizes(),
        h("h2", null, "Layers"), h("p", null, "The numbers as files: ", dataLinks(`${job.id}-layers`, all)),
        table("Layers", columns.map((c) => ({ ...c, class: c.key === "name" && "name", cell: (l) => c.key === "name" ? l.name : layerCell(c, l) })), layers)],
    h("h2", null, "Recipe"), h("pre", { tabindex: "0" }, JSON.stringify(job.recipe, null, 2))].flat(2).filter(Boolean));
