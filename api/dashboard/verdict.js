// verdict.js - whether a quantized model is good enough: accuracy, size, how much of it is quantized.
import { bytes, card, h, number, table } from "./dom.js";

const metricNames = { top1: ["top-1", "%"], top5: ["top-5", "%"], perplexity: ["perplexity", ""], agreement: ["agreement with the float model", "%"],
    logit_sqnr_db: ["SQNR of the outputs", "dB"], cosine: ["cosine of the outputs", ""], kl: ["KL divergence", ""] };

function metricRow([name, m]) {
    const [title, unit] = metricNames[name] || [name, ""];
    return { title, float: m.float === null ? "–" : `${number(m.float, 4)} ${unit}`, quantized: `${number(m.quantized, 4)} ${unit}`, samples: m.samples };
}

/** What decides whether the model is good enough: accuracy where there are labels, else the outputs' SQNR. */
export function headline(metrics) {
    const name = ["top1", "perplexity", "logit_sqnr_db"].find((n) => metrics && metrics[n]);
    return name && metricRow([name, metrics[name]]);
}

export function verdict(job, layers) {
    const r = job.result, best = headline(r.metrics);
    const whole = layers.filter((l) => !l.skip_reason).length;
    return [h("h2", null, "Verdict"), h("ul", { class: "cards" },
        best && card(best.quantized, `${best.title}${best.float === "–" ? "" : `, float ${best.float}`}`),
        card(bytes(r.bytes_after), `of ${bytes(r.bytes_before)}: ${number(r.bytes_before / r.bytes_after)} times smaller`),
        card(`${whole} of ${layers.length}`, "layers quantized"), card(number(job.warnings), "warnings"), card(`${number(r.seconds, 1)} s`, "of work")),
    r.metrics && h("h3", null, "Metrics"), r.metrics && table("Metrics", [
        { title: "Metric", cell: (m) => m.title }, { title: "Float", n: true, cell: (m) => m.float },
        { title: "Quantized", n: true, cell: (m) => m.quantized }, { title: "Samples", n: true, cell: (m) => number(m.samples) },
    ], Object.entries(r.metrics).map(metricRow))];
}
