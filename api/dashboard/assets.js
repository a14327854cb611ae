// assets.js - the registered models and data sets, and what is inside one.
import { bytes, card, facts, h, number, state, table, time } from "./dom.js";
import { all, get, may } from "./api.js";
import { bars, dataLinks } from "./chart.js";
import { checker } from "./checks.js";

const kinds = {
    models: { title: "Models", none: "No model is registered yet.", option: "model" },
    datasets: { title: "Data sets", none: "No data set is registered yet.", option: "data" },
};

async function list(kind, place, { query, signal }) {
    const { title, none } = kinds[kind], cursor = query.get("cursor");
    const page = await get(`/v1/${kind}?limit=100${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`, signal);
    place.append(h("h1", null, title), page.data.length ? table(title, [
        { title: "Name", class: "name", cell: (a) => h("a", { href: `#/${kind}/${a.id}` }, a.name) }, { title: "Id", class: "mono", cell: (a) => a.id },
        { title: "Format", cell: (a) => a.format }, { title: "Size", n: true, cell: (a) => bytes(a.bytes) },
        { title: "Registered", cell: (a) => time(a.created_at) }], page.data) : h("p", null, none),
    page.next_cursor && h("p", null, h("a", { href: `#/${kind}?cursor=${page.next_cursor}` }, "Older ones")) || "");
}

function head(kind, a) {
    const rows = [["Id", a.id], ["Format", a.format], ["Size", bytes(a.bytes)], ["Digest", a.digest], ["Registered", time(a.created_at)]];
    return [h("h1", null, a.name), h("p", null, h("a", { href: `#/${kind}` }, `All ${kinds[kind].title.toLowerCase()}`),
        may("jobs:write") && [" · ", h("a", { href: `#/new?${kinds[kind].option}=${a.id}` }, "New job with it")]),
    a.corrupt && h("p", { class: "note warn" }, "Stored bytes of it have rotted. Jobs with it fail until the file is uploaded again."),
    facts(rows),
    a.files.length > 1 && table("Files", [{ title: "File", class: "name", cell: (f) => f.path }, { title: "Size", n: true, cell: (f) => bytes(f.bytes) },
        { title: "Digest", class: "mono", cell: (f) => f.digest }], a.files)];
}

function shape(dims) {
    return dims ? `[${dims.join(", ")}]` : "any";
}

function values(title, list) {
    return [h("h2", null, title), table(title, [{ title: "Name", class: "name", cell: (v) => v.name }, { title: "Type", cell: (v) => v.dtype },
        { title: "Shape", cell: (v) => shape(v.shape) }], list)];
}

/** Bytes of the float weights by block, in the order of the model; what no layer has (embeddings, norms) comes last. */
function blockBytes(i) {
    const of = new Map();
    for (const l of i.layers)
        if (l.params)
            of.set(l.block || l.name, (of.get(l.block || l.name) || 0) + 4 * l.params);
    const rest = 4 * i.parameters - [...of.values()].reduce((x, y) => x + y, 0);
    return [...[...of].map(([label, value]) => ({ label, value })), ...(rest > 0 ? [{ label: "embeddings, norms and others", value: rest }] : [])];
}

function operators(i) {
    const methods = Object.keys(i.ops[0] && i.ops[0].support || {});
    const support = (o, m) => o.support[m] === o.count ? "all" : o.support[m] || "float";
    const rows = [["operator", "count", ...methods], ...i.ops.map((o) => [o.type, o.count, ...methods.map((m) => o.support[m])])];
    return [h("h2", null, "Operators"),
        h("p", null, "How many of each a method's plain preset quantizes; the others are computed in float. ", dataLinks("operators", rows)),
        table("Operators", [{ title: "Operator", cell: (o) => o.type }, { title: "Count", n: true, cell: (o) => number(o.count) },
            ...methods.map((m) => ({ title: m, n: true, cell: (o) => support(o, m) }))], i.ops)];
}

function layers(i) {
    const rows = [["layer", "operator", "role", "block", "inputs", "outputs", "bytes"],
        ...i.layers.map((l) => [l.name, l.op, l.role, l.block, ...(l.shape || ["", ""]), 4 * (l.params || 0)])];
    return h("details", null, h("summary", null, `The ${number(i.layers.length)} layers that can be quantized`), h("p", null, dataLinks("layers", rows)),
        table("Layers", [{ title: "Layer", class: "name", cell: (l) => l.name }, { title: "Operator", cell: (l) => l.op },
            { title: "Role", cell: (l) => l.role }, { title: "Shape", cell: (l) => l.shape ? `${l.shape[0]} × ${l.shape[1]}` : "two activations" },
            { title: "Bytes", n: true, cell: (l) => l.params ? bytes(4 * l.params) : "–" }], i.layers.slice(0, 1000)));
}

async function jobsOf(model, signal) {
    const { data } = await get(`/v1/jobs?model_id=${model}&limit=20`, signal);
    return data.length ? [h("h2", null, "Its last jobs"), table("Jobs", [{ title: "Job", class: "mono", cell: (j) => h("a", { href: `#/jobs/${j.id}` }, j.id) },
        { title: "State", cell: state },
        { title: "Made", cell: (j) => time(j.created_at) }], data)] : [];
}

async function model(place, { path: [id], signal }) {
    const a = await get(`/v1/models/${id}`, signal), i = a.inventory, left = i.left_float;
    place.append(...[head("models", a), h("ul", { class: "cards" }, [[number(i.parameters, 0), "parameters"], [number(i.nodes), "nodes after folding"],
        [number(i.layers.length), "layers that can be quantized"], [number(i.norms.length), "norms"], [number(i.softmaxes), "softmaxes"],
        [`opset ${i.opset}`, i.producer || "unknown producer"]].map(([value, what]) => card(value, what))),
    values("Inputs", i.inputs), values("Outputs", i.outputs), h("h2", null, "Size"),
    bars("Bytes of the float weights per block", "bytes", blockBytes(i), { name: "bytes-per-block", what: "block", show: bytes }), operators(i), layers(i),
    left.length && [h("h2", null, "Stays in float"), table("Stays in float", [{ title: "Node", class: "name", cell: (n) => n.node },
        { title: "Operator", cell: (n) => n.op }, { title: "Why", class: "name", cell: (n) => n.reason }], left)],
    i.truncated && h("p", { class: "note warn" }, "The lists are cut: the model has more layers than they hold."),
    await jobsOf(id, signal)].flat(2).filter(Boolean));
}

const arrayColumns = [["name", "Name"], ["dtype", "Type"], ["shape", "Shape"], ["min", "Least"], ["max", "Greatest"], ["mean", "Mean"], ["nan_count", "NaN"],
    ["inf_count", "Infinite"]];

function arrays(i) {
    const cell = (key) => (x) => key === "shape" ? shape(x.shape) : typeof x[key] === "number" ? number(x[key], 4) : x[key] ?? "–";
    return [h("h2", null, "Arrays"), h("p", null, dataLinks("arrays", [arrayColumns.map(([key]) => key), ...i.arrays.map((x) =>
        arrayColumns.map(([key]) => key === "shape" ? shape(x.shape) : x[key]))])),
    table("Arrays", arrayColumns.map(([key, title]) =>
        ({ title, n: !["name", "dtype", "shape"].includes(key), class: key === "name" && "name", cell: cell(key) })), i.arrays)];
}

function previews(list) {
    return [h("h2", null, "First pictures, as the model gets them"), h("div", { class: "row" }, list.map((p) => h("figure", { class: "preview" },
        h("img", { src: `data:image/png;base64,${p.png}`, alt: "", width: p.width, height: p.height }), h("figcaption", null, p.file))))];
}

async function dataset(place, { path: [id], query, signal }) {
    const [a, models] = await Promise.all([get(`/v1/datasets/${id}`, signal), all("/v1/models", 200)]), i = a.inventory;
    const fit = h("div", { "aria-live": "polite" }), check = checker(fit), choice = h("select", { id: "against", change: () => {
        history.replaceState(null, "", `#/datasets/${id}${choice.value ? `?model=${choice.value}` : ""}`);
        check(choice.value, id);
    } }, h("option", { value: "" }, "choose …"), models.map((m) => h("option", { value: m.id }, `${m.name} (${m.id})`)));
    choice.value = query.get("model") || "";
    place.append(...[head("datasets", a), h("ul", { class: "cards" }, [[i.samples === null ? "–" : number(i.samples), "samples"],
        [i.has_labels ? "yes" : "no", "labels"]].map(([value, what]) => card(value, what))),
    arrays(i), i.previews && previews(i.previews), h("h2", null, "Does it fit a model?"), h("p", null, h("label", { for: "against" }, "Model "), choice), fit]
        .flat(2).filter(Boolean));
    await check(choice.value, id);
}

export const modelsPage = (place, at) => list("models", place, at), modelPage = model;
export const datasetsPage = (place, at) => list("datasets", place, at), datasetPage = dataset;
