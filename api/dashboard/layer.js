// layer.js - one layer: its weights and inputs before and after, its channels, its softmax codes.
import { bytes, facts, h, number } from "./dom.js";
import { get } from "./api.js";
import { codes, histogram, lines, ribbons } from "./chart.js";

function input(title, a, layer, name) {
    const q = a.quantizer || {}, clips = [q.clip_low, q.clip_high].filter(Number.isFinite);
    const plots = [];
    if (a.histogram_before)
        plots.push(histogram(title, { before: a.histogram_before, after: a.histogram_after, clips, name }));
    if (a.channels)
        plots.push(ribbons(`${title}: ranges of its channels`, a.channels, { name: `${name}-channels` }));
    if (a.codes) {
        const sum = a.codes.reduce((x, y) => x + y, 0) || 1;
        plots.push(codes(`${title}: ${q.type} codes`, a.codes, `${number(layer.zero_code_pct)} % of the probabilities become zero; ${
            number(100 * a.codes[0] / sum)} % have the code of the highest level, ${number(q.highest, 4)}.`, { name: `${name}-codes` }));
    }
    return plots;
}

/** A figure with its unit, or a dash. */
function measure(value, unit) {
    return value === null || value === undefined ? "–" : `${number(value)} ${unit}`;
}

function factsOf(layer) {
    const rows = [["Role", layer.role], ["Operator", layer.op], ["Block", layer.block || "–"],
        ["Precision", layer.skip_reason ? `float: ${layer.skip_reason}` : layer.actual_precision],
        ["Weights", measure(layer.weight_sqnr_db, "dB")], ["The layer alone", measure(layer.isolated_sqnr_db, "dB")],
        ["With all before it", measure(layer.accumulated_sqnr_db, "dB")], ["Saturated", measure(layer.saturation_pct, "%")],
        ["Gained by reconstruction", measure(layer.reconstruction_gain_db, "dB")], ["Gained by bias correction", measure(layer.bias_correction_gain_db, "dB")],
        ["Size", `${bytes(layer.bytes_after)} of ${bytes(layer.bytes_before)}`]];
    return facts(rows);
}

export async function layerPage(place, { path: [id, index], signal }) {
    const { data } = await get(`/v1/jobs/${id}/layers`, signal), at = data.findIndex((l) => String(l.index) === index), layer = data[at];
    const to = (l, text) => l && h("a", { href: `#/jobs/${id}/layers/${l.index}` }, `${text}: ${l.name}`);
    place.append(h("p", null, h("a", { href: `#/jobs/${id}/layers` }, "All layers")));
    if (!layer) {
        place.append(h("h1", null, "There is no such layer"));
        return;
    }
    place.append(h("h1", null, layer.name), h("nav", { class: "row", "aria-label": "Neighbours" }, to(data[at - 1], "Before"), to(data[at + 1], "After")),
        factsOf(layer));
    const d = await get(`/v1/jobs/${id}/layers/${layer.index}/details`, signal), name = `${id}-layer-${index}`;
    const w = d.weight || {};
    const plots = [w.histogram_before && histogram("Weights", { before: w.histogram_before, after: w.histogram_after, name: `${name}-weights` }),
        w.scales && lines("Scales of its output channels", "channel", "scale", [{ name: "scale", values: w.scales }], { name: `${name}-scales` }),
        d.activation && input("Input", d.activation, layer, `${name}-input`),
        d.other_activation && input("Other input", d.other_activation, layer, `${name}-other`)];
    place.append(h("div", { class: "plots" }, plots));
}
