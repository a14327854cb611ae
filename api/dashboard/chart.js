// chart.js - small drawings in SVG.  Each is a figure with its title, its key and its numbers as CSV; what it says is also in words.
import { h, number, s } from "./dom.js";

function csv(rows) {
    const cell = (v) => v === null || v === undefined ? "" : /[",\n]/.test(String(v)) ? `"${String(v).replaceAll('"', '""')}"` : String(v);
    return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

const json = ([names, ...rows]) => JSON.stringify(rows.map((row) => Object.fromEntries(names.map((name, i) => [name, row[i] ?? null]))), null, 1);

function fileLink(name, format, type, text) {
    const link = h("a", { href: "#", download: `${name}.${format.toLowerCase()}`, "aria-label": `${name} as ${format}` }, format);
    link.addEventListener("click", () => {
        link.href = URL.createObjectURL(new Blob([text()], { type }));
        setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
    return link;
}

/** Links to numbers as files.  The first row names the columns. */
export function dataLinks(name, rows) {
    return h("span", { class: "data" }, fileLink(name, "CSV", "text/csv", () => csv(rows)), " ", fileLink(name, "JSON", "application/json", () => json(rows)));
}

function key(name, kind) {
    return h("span", { class: "key" }, s("svg", { viewBox: "0 0 30 10", "aria-hidden": "true" },
        s("line", { class: `line ${kind}`, x1: 0, x2: 30, y1: 5, y2: 5 })), name);
}

function figure(title, keys, drawing, words, name, rows) {
    drawing.setAttribute("aria-label", `${title}. ${words}`);
    return h("figure", null, h("figcaption", null, h("b", null, title), keys.map(([text, kind]) => key(text, kind)), dataLinks(name, rows)),
        h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": title }, drawing));
}

const W = 640, LEFT = 66, RIGHT = 12, TOP = 8, BOTTOM = 34;

function range(values) {
    let low = Infinity, high = -Infinity;
    for (const v of values)
        if (Number.isFinite(v)) {
            low = Math.min(low, v);
            high = Math.max(high, v);
        }
    return low > high ? [0, 1] : low === high ? [low - 1, high + 1] : [low, high];
}

/** Steps of 1, 2 or 5 times a power of ten that cut [low, high] about n times. */
function ticks(low, high, n = 5) {
    const raw = (high - low) / n, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find((k) => k * power >= raw) * power;
    const found = [];
    for (let t = Math.ceil(low / step) * step; t <= high + step / 1e6; t += step)
        found.push(Number(t.toPrecision(12)));
    return found;
}

/** The frame of a plot: axes with ticks and titles.  Gives the drawing and where values lie in it. */
function frame(H, [x0, x1], [y0, y1], xTitle, yTitle, { left = LEFT, xTicks, yTicks = ticks(y0, y1, 4), yText = number } = {}) {
    const x = (v) => left + (v - x0) / (x1 - x0) * (W - left - RIGHT), y = (v) => H - BOTTOM - (v - y0) / (y1 - y0) * (H - TOP - BOTTOM);
    const drawing = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" });
    for (const t of yTicks)
        drawing.append(s("line", { class: "axis", x1: left, x2: W - RIGHT, y1: y(t), y2: y(t) }),
            s("text", { x: left - 5, y: y(t) + 4, "text-anchor": "end" }, yText(t)));
    for (const t of xTicks || ticks(x0, x1, 7))
        drawing.append(s("text", { x: x(t), y: H - BOTTOM + 14, "text-anchor": "middle" }, number(t, 4)));
    drawing.append(s("text", { x: (W + left) / 2, y: H - 4, "text-anchor": "middle" }, xTitle),
        s("text", { x: 12, y: (H - BOTTOM) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(H - BOTTOM) / 2})` }, yTitle));
    return { drawing, x, y };
}

/** Horizontal bars, in the order given: rows of {label, value, href}.  More than `most` are shown on request. */
export function bars(title, unit, rows, { name, what = "layer", show = number, most = 30, all = false } = {}) {
    const shown = all ? rows : rows.slice(0, most), H = shown.length * 18 + 24, start = 230;
    const [low, high] = range([0, ...rows.map((r) => r.value)]), x = (v) => start + (v - low) / (high - low) * (W - start - 60);
    const drawing = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "group" }, shown.map((r, i) => {
        const text = s("text", { x: start - 6, y: i * 18 + 13, "text-anchor": "end" }, r.label.length > 34 ? `…${r.label.slice(-33)}` : r.label);
        const bar = s("rect", { class: "bar k0", x: x(Math.min(0, r.value)), y: i * 18 + 3, height: 12, width: Math.max(1, Math.abs(x(r.value) - x(0))) });
        return [r.href ? s("a", { href: r.href, "aria-label": `${r.label}: ${show(r.value)} ${unit}` }, text) : text, bar,
            s("text", { x: Math.max(x(r.value), x(0)) + 5, y: i * 18 + 13 }, show(r.value))];
    }), s("text", { x: W - 4, y: H - 6, "text-anchor": "end" }, unit));
    const made = figure(title, [], drawing, rows.length ? `The first is ${rows[0].label} with ${number(rows[0].value)} ${unit}.` : "There are none.", name,
        [[what, unit], ...rows.map((r) => [r.label, r.value])]);
    if (!all && rows.length > most)
        made.append(h("button", { class: "do", click: () => made.replaceWith(bars(title, unit, rows, { name, what, show, most, all: true })) },
            `Show all ${rows.length}`));
    return made;
}

/** Lines over the index: series of {name, values}; null values leave a gap. */
export function lines(title, xTitle, yTitle, series, { name, labels, at, zero } = {}) {
    const n = Math.max(2, ...series.map((one) => one.values.length));
    const heights = [...series.flatMap((one) => one.values), ...(zero ? [0, 1] : [])];
    const { drawing, x: place, y } = frame(240, at ? range(at) : [0, n - 1], range(heights), xTitle, yTitle);
    const x = (i) => place(at ? at[i] : i);
    series.forEach((one, i) => {
        let path = "", pen = "M";
        one.values.forEach((v, k) => {
            if (Number.isFinite(v))
                path += `${pen}${x(k).toFixed(1)} ${y(v).toFixed(1)}`;
            if (Number.isFinite(v) && pen === "M" && !Number.isFinite(one.values[k + 1]))      // alone: a line of no length is not seen
                drawing.append(s("circle", { class: `dot k${i}`, cx: x(k), cy: y(v), r: 2.5 }));
            pen = Number.isFinite(v) ? "L" : "M";
        });
        drawing.append(s("path", { class: `line k${i} d${i}`, d: path }));
    });
    const words = series.map((one) => `${one.name}: from ${number(range(one.values)[0])} to ${number(range(one.values)[1])}`).join("; ");
    return figure(title, series.map((one, i) => [one.name, `k${i} d${i}`]), drawing, words, name,
        [["index", ...(labels ? ["label"] : []), ...series.map((one) => one.name)],
            ...Array.from({ length: n }, (_, i) => [i, ...(labels ? [labels[i]] : []), ...series.map((one) => one.values[i])])]);
}

/** Counts before (an area) and after (a line) over one range, on a logarithmic axis, with lines where values are clipped. */
export function histogram(title, { before, after, clips = [], name }) {
    const n = before.counts.length, log = (c) => Math.log10(1 + c), width = (before.max - before.min) / n || 1;
    const top = Math.max(1, ...before.counts.map(log), ...(after ? after.counts.map(log) : []));
    const x1 = before.max > before.min ? before.max : before.min + 1;
    const decades = [0, ...Array.from({ length: Math.floor(top) + 1 }, (_, i) => 10 ** i)].map(log).filter((t) => t <= top);
    const yTicks = decades.length > 5 ? decades.filter((_, i) => i % 2 === 0) : decades;
    const { drawing, x, y } = frame(220, [before.min, x1], [0, top], "value", "count", { yTicks, yText: (t) => number(10 ** t - 1, 0) });
    const edge = (i) => x(before.min + i * width).toFixed(1);
    const steps = (one) => one.counts.map((c, i) => `L${edge(i)} ${y(log(c)).toFixed(1)}H${edge(i + 1)}`).join("");
    drawing.append(s("path", { class: "area k0", d: `M${x(before.min)} ${y(0)}${steps(before)}V${y(0)}Z` }));
    if (after)
        drawing.append(s("path", { class: "line k1", d: `M${x(before.min)} ${y(0)}${steps(after)}V${y(0)}` }));
    for (const c of clips.filter((v) => v >= before.min && v <= x1))
        drawing.append(s("line", { class: "clip", x1: x(c), x2: x(c), y1: TOP, y2: 220 - BOTTOM }));
    const cut = clips.length ? `, clipped at ${clips.map((c) => number(c, 4)).join(" and ")}` : "";
    const words = `Values from ${number(before.min, 4)} to ${number(before.max, 4)}${cut}.`;
    return figure(title, [["before", "k0"], ...(after ? [["after", "k1"]] : []), ...(clips.length ? [["clip", "clip"]] : [])], drawing, words, name,
        [["from", "to", "before", "after"], ...before.counts.map((c, i) =>
            [before.min + i * width, before.min + (i + 1) * width, c, after ? after.counts[i] : ""])]);
}

/** Ranges of channels before and after, widest first, as two ribbons. */
export function ribbons(title, c, { name }) {
    const order = [...c.min_before.keys()].sort((a, b) => c.max_before[b] - c.min_before[b] - c.max_before[a] + c.min_before[a]);
    const n = Math.max(2, order.length), { drawing, x, y } = frame(240, [0, n - 1], range([...c.min_before, ...c.max_before, ...c.min_after, ...c.max_after]),
        "channels, the widest first", "range");
    const ribbon = (low, high) => `M${order.map((at, i) => `${x(i).toFixed(1)} ${y(high[at]).toFixed(1)}`).join("L")}L${
        order.map((at, i) => `${x(i).toFixed(1)} ${y(low[at]).toFixed(1)}`).reverse().join("L")}Z`;
    drawing.append(s("path", { class: "area k0", d: ribbon(c.min_before, c.max_before) }),
        s("path", { class: "line k1", d: ribbon(c.min_after, c.max_after) }));
    const ratio = (low, high) => {
        const w = order.map((i) => high[i] - low[i]).filter((v) => v > 0);
        return w.length ? Math.max(...w) / Math.min(...w) : null;
    };
    const words = `Widest to narrowest: ${number(ratio(c.min_before, c.max_before))} before, ${number(ratio(c.min_after, c.max_after))} after.`;
    const made = figure(title, [["before", "k0"], ["after", "k1"]], drawing, words, name, [["channel", "min_before", "max_before", "min_after", "max_after"],
        ...order.map((i) => [i, c.min_before[i], c.max_before[i], c.min_after[i], c.max_after[i]])]);
    made.append(h("p", { class: "soft" }, words));
    return made;
}

/** How often each code occurs. */
export function codes(title, counts, words, { name }) {
    const { drawing, x, y } = frame(200, [-0.5, counts.length - 0.5], [0, Math.max(1, ...counts)], "code", "count", { xTicks: [...counts.keys()] });
    drawing.append(...counts.map((c, i) => s("rect", { class: "bar k0", x: x(i - 0.4), width: x(0.4) - x(-0.4), y: y(c), height: y(0) - y(c) })));
    const made = figure(title, [], drawing, words, name, [["code", "count"], ...counts.map((c, i) => [i, c])]);
    made.append(h("p", { class: "soft" }, words));
    return made;
}

/** Spans of time under each other: rows of {name, from, to} in seconds. */
export function gantt(title, rows, { name }) {
    const end = Math.max(0.001, ...rows.map((r) => r.to)), left = 90;
    const { drawing, x } = frame(rows.length * 20 + BOTTOM + TOP, [0, end], [0, 1], "seconds", "", { left, yTicks: [] });
    rows.forEach((r, i) => drawing.append(s("text", { x: left - 8, y: TOP + i * 20 + 14, "text-anchor": "end" }, r.name),
        s("rect", { class: "bar k0", x: x(r.from), y: TOP + i * 20 + 3, height: 14, width: Math.max(1, x(r.to) - x(r.from)) })));
    const words = rows.map((r) => `${r.name} took ${number(r.to - r.from, 1)} s`).join(", ");
    return figure(title, [], drawing, `${words}.`, name, [["stage", "from_seconds", "to_seconds"], ...rows.map((r) => [r.name, r.from, r.to])]);
}

/** The codes of each head, small and side by side: a list of counts, and for each {head, zero, saturated} in percent. */
export function heads(title, codes, facts, { name }) {
    const across = 4, w = W / across, height = 104, tall = 56;
    const drawing = s("svg", { viewBox: `0 0 ${W} ${Math.ceil(codes.length / across) * height}`, role: "img" });
    codes.forEach((counts, i) => {
        const left = i % across * w + 6, top = Math.floor(i / across) * height + 4, most = Math.max(1, ...counts), step = (w - 14) / counts.length;
        const colour = (at) => at === counts.length - 1 ? "bar k1" : at ? "bar k0" : "bar k2";
        drawing.append(...counts.map((c, at) => s("rect", { class: colour(at), x: left + at * step, width: step * 0.8, y: top + tall - c / most * tall,
            height: c / most * tall })),
        s("line", { class: "axis", x1: left, x2: left + w - 14, y1: top + tall, y2: top + tall }),
        s("text", { x: left, y: top + tall + 13 }, `head ${facts[i].head}`),
        s("text", { x: left, y: top + tall + 25 }, `zero ${number(facts[i].zero, 1)} %`),
        s("text", { x: left, y: top + tall + 37 }, `saturated ${number(facts[i].saturated, 1)} %`));
    });
    const most = facts.reduce((a, b) => b.zero > a.zero ? b : a);
    return figure(title, [["highest level", "k2"], ["levels", "k0"], ["zero", "k1"]], drawing,
        `Head ${most.head} has the most zeros, ${number(most.zero)} %.`, name,
        [["head", ...codes[0].map((_, i) => `code_${i}`)], ...codes.map((counts, i) => [facts[i].head, ...counts])]);
}

/** Points of {label, x, y, href}; those that another one beats in both are hollow. */
export function pareto(title, xTitle, yTitle, points, { name }) {
    const spread = ([low, high]) => [low - (high - low) * 0.1, high + (high - low) * 0.15];
    const { drawing, x, y } = frame(280, spread(range(points.map((p) => p.x))), spread(range(points.map((p) => p.y))), xTitle, yTitle);
    const beaten = (p) => points.some((q) => q.x <= p.x && q.y >= p.y && (q.x < p.x || q.y > p.y));
    points.forEach((p, i) => {
        const left = x(p.x) > W * 0.6;
        drawing.append(s("circle", { class: `${beaten(p) ? "line" : "dot"} k${i}`, cx: x(p.x), cy: y(p.y), r: 6 }),
            s("text", { x: x(p.x) + (left ? -9 : 9), y: y(p.y) - 8, "text-anchor": left ? "end" : "start" }, p.label + (beaten(p) ? " (dominated)" : "")));
    });
    const words = points.map((p) => `${p.label}: ${number(p.x)}, ${number(p.y)}`).join("; ");
    return figure(title, points.map((p, i) => [p.label, `k${i} d${i}`]), drawing, words, name,
        [["job", xTitle, yTitle], ...points.map((p) => [p.label, p.x, p.y])]);
}
