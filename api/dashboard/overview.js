// overview.js - all layers of a job together: what is told of each, their order, where the errors are.
import { bytes, h, number } from "./dom.js";
import { bars, lines } from "./chart.js";

export const columns = [
    { key: "index", title: "#", n: true, show: (l) => l.index },
    { key: "name", title: "Layer" },
    { key: "role", title: "Role", show: (l) => l.role },
    { key: "actual_precision", title: "Precision", show: (l) => l.skip_reason ? `float: ${l.skip_reason}` : l.actual_precision },
    { key: "weight_sqnr_db", title: "Weights dB", n: true },
    { key: "isolated_sqnr_db", title: "Isolated dB", n: true },
    { key: "accumulated_sqnr_db", title: "Accum. dB", n: true },
    { key: "cosine", title: "Cosine", n: true, digits: 5 },
    { key: "saturation_pct", title: "Saturated %", n: true },
    { key: "channel_range_ratio_before", title: "Ratio", n: true },
    { key: "channel_range_ratio_after", title: "Ratio then", n: true },
    { key: "bytes_after", title: "Bytes", n: true, show: (l) => bytes(l.bytes_after) },
];

/** Rows without the value come last, whichever the order. */
export function compareLayers(key, sign) {
    return (a, b) => {
        const x = a[key], y = b[key];
        if (x === y)
            return a.index - b.index;
        if (x === null || x === undefined)
            return 1;
        if (y === null || y === undefined)
            return -1;
        return (x < y ? -1 : 1) * sign;
    };
}

/** What a layer has in a column. */
export const layerCell = (column, layer) => column.show ? column.show(layer) : number(layer[column.key], column.digits);

const exact = (v) => v.toExponential(2), fine = (v) => number(v, 5), decades = { type: "logarithmic", ticks: { callback: exact, maxTicksLimit: 5 } };

/** What can be worst: the lowest, or with sign -1 the highest. */
const measures = [
    { key: "isolated_sqnr_db", title: "SQNR of the layer alone", unit: "dB", sign: 1 },
    { key: "accumulated_sqnr_db", title: "SQNR with all before it", unit: "dB", sign: 1 },
    { key: "weight_sqnr_db", title: "SQNR of the weights", unit: "dB", sign: 1 },
    { key: "output_mse", title: "MSE of the output", unit: "MSE", sign: -1, options: { show: exact, axis: decades } },
    { key: "cosine", title: "Cosine of the output", unit: "cosine", sign: 1, options: { show: fine, axis: { ticks: { callback: fine, maxTicksLimit: 5 } } } },
];

/** Bars of the layers that are worst by a measure. */
function worstFirst(id, layers, { key, title, unit, sign, options }, hrefOf) {
    const rows = layers.filter((l) => Number.isFinite(l[key]) && (key !== "output_mse" || l[key] > 0)).sort(compareLayers(key, sign))
        .map((l) => ({ label: l.name, value: l[key], href: hrefOf(l) }));
    return bars(`Worst first: ${title}`, unit, rows, { name: `${id}-${key}`, most: 12, ...options });
}

/** Errors over the depth, and the layers that lose the most.  hrefOf(layer) is where more of it is told, if anywhere; told(key) hears of another measure. */
export function errorPlots(id, layers, { hrefOf = () => null, by, told = () => {} } = {}) {
    const place = h("div"), choice = h("select", { id: "worst", change: () => { draw(); told(choice.value); } },
        measures.map(({ key, title }) => h("option", { value: key, selected: key === by }, title)));
    const draw = () => place.replaceChildren(worstFirst(id, layers, measures.find(({ key }) => key === choice.value), hrefOf));
    draw();
    return [h("p", { class: "row" }, h("label", { for: "worst" }, "Worst by"), choice), h("div", { class: "plots" }, place,
        lines("Error over depth", "layer", "SQNR dB", [
            { name: "isolated", values: layers.map((l) => l.isolated_sqnr_db) }, { name: "accumulated", values: layers.map((l) => l.accumulated_sqnr_db) }],
        { name: `${id}-depth`, labels: layers.map((l) => l.name) }))];
}
