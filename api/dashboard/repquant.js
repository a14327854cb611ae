// repquant.js - what only RepQuant does: channels behind norms get one scale, attention's probabilities logarithmic codes.
import { h, number, problem, table } from "./dom.js";
import { get } from "./api.js";
import { dataLinks, heads, ribbons } from "./chart.js";

/** Channel ranges as the model has them, and as its norm gives them once it has taken up the factors. */
function reparameterized(c) {
    const through = (values) => values.map((v, i) => c.mul ? v * c.mul[i] + c.shift[i] : v);
    return { min_before: c.min_before, max_before: c.max_before, min_after: through(c.min_before), max_after: through(c.max_before) };
}

/** Fills a place with what make() gives once it comes into view: a large model has hundreds of these. */
function whenSeen(signal, title, make) {
    const place = h("section", { "aria-label": title }, h("h3", null, title), h("p", { class: "soft" }, "…"));
    const seen = new IntersectionObserver(async (entries) => {
        if (!entries.some((e) => e.isIntersecting))
            return;
        seen.disconnect();
        try {
            place.replaceChildren(h("h3", null, title), ...[await make()].flat().filter(Boolean));
        } catch (e) {
            if (!signal.aborted)
                place.replaceChildren(h("h3", null, title), problem(e));
        }
    }, { rootMargin: "600px" });
    seen.observe(place);
    signal.addEventListener("abort", () => seen.disconnect());
    return place;
}

const share = (part, sum) => 100 * part / (sum || 1);

/** Of one head: which share of the probabilities becomes zero, which has the highest level; bits a code carries. */
function headFacts(codes, h) {
    const sum = codes.reduce((x, y) => x + y, 0);
    const entropy = codes.reduce((bits, c) => c ? bits - c / sum * Math.log2(c / sum) : bits, 0);
    return { head: h, zero: share(codes[codes.length - 1], sum), saturated: share(codes[0], sum), entropy };
}

function headsOf(layer, d, name) {
    const a = d.activation, all = a.heads ? a.heads.codes : [a.codes], facts = all.map(headFacts);
    return [heads(`${layer.name}: ${a.quantizer.type} codes`, all, facts, { name }), a.heads && a.heads.count > all.length
        && h("p", null, `The first ${all.length} of ${a.heads.count} heads.`),
    !a.heads && h("p", null, "All heads together: the model does not tell them apart."),
    table(`Heads of ${layer.name}`, [{ title: "Head", n: true, cell: (f) => a.heads ? f.head : "all" },
        { title: "Zero %", n: true, cell: (f) => number(f.zero) }, { title: "Saturated %", n: true, cell: (f) => number(f.saturated) },
        { title: "Entropy, bits", n: true, cell: (f) => number(f.entropy) }], facts)];
}

function normOf(norm, layer, d, name) {
    const c = d.activation && d.activation.channels;
    if (!c)
        return h("p", null, "No channel ranges are known.");
    const r = reparameterized(c);
    return [ribbons(`Channels behind ${norm}`, r, { name }), h("p", { class: "soft" }, c.mul
        ? `The norm and the weights of ${layer.name} took up factors from ${number(Math.min(...c.mul), 4)} to ${number(Math.max(...c.mul), 4)}.`
        : "The recipe left these channels as they are.", c.count > c.min_before.length && ` ${c.min_before.length} of ${c.count} channels are shown.`)];
}

function summary(norms) {
    const columns = [["Ratio before", "channel_range_ratio_before"], ["Ratio after", "channel_range_ratio_after"], ["Exponent", "channel_exponent"],
        ["Gained by clipping, dB", "clip_gain_db"]];
    const data = [["norm", "layer", "widest_to_median_before", "widest_to_median_after", "exponent", "clip_gain_db"],
        ...norms.map(({ norm, layer }) => [norm, layer.name, ...columns.map(([, key]) => layer[key])])];
    return [h("p", null, "The ratio is of the widest channel to the median one; plots tell it to the narrowest. ", dataLinks("norms", data)),
        table("Norms", [{ title: "Norm", class: "name", cell: (r) => r.norm },
            ...columns.map(([title, key]) => ({ title, n: true, cell: (r) => number(r.layer[key]) }))], norms)];
}

export async function repquantPage(place, { path: [id], signal }) {
    const [job, { data: layers }] = await Promise.all([get(`/v1/jobs/${id}`, signal), get(`/v1/jobs/${id}/layers`, signal)]);
    const model = await get(`/v1/models/${job.request.model_id}`, signal).catch(() => null), byName = new Map(layers.map((l) => [l.name, l]));
    place.append(h("h1", null, "Norms and attention"), h("p", { class: "mono" }, h("a", { href: `#/jobs/${id}` }, id)));
    if (job.state !== "succeeded") {
        place.append(h("p", null, "The job has to succeed first."));
        return;
    }
    const details = (l) => get(`/v1/jobs/${id}/layers/${l.index}/details`, signal);
    const norms = (model ? model.inventory.norms : []).map((n) => ({ norm: n.name, layer: byName.get(n.feeds.find((f) => byName.has(f))) }))
        .filter((n) => n.layer && !n.layer.skip_reason);
    const products = layers.filter((l) => l.zero_code_pct !== null && l.zero_code_pct !== undefined);
    place.append(h("h2", null, "Channels behind norms"), ...(norms.length ? summary(norms) : [h("p", null, model
        ? "No quantized layer reads a norm's output." : "The model is deleted: nobody can tell which layers read a norm's output.")]),
    h("div", { class: "plots" }, norms.map(({ norm, layer }) =>
        whenSeen(signal, norm, async () => normOf(norm, layer, await details(layer), `${id}-norm-${layer.index}`)))),
    h("h2", null, "Attention, head by head"), products.length ? "" : h("p", null, "No probabilities have logarithmic codes."),
    ...products.map((l) => whenSeen(signal, l.name, async () => headsOf(l, await details(l), `${id}-heads-${l.index}`))));
}
