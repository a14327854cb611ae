// chart.js - drawings, by Chart.js.  Each is a figure with its title, its key and its numbers as CSV and JSON; what it says is also in words.
import "./chart.min.js";
import { h, number } from "./dom.js";

const { Chart } = globalThis;
const COLOURS = ["--a", "--b", "--c", "--d", "--e", "--f"];         // series are told apart by colour, dash and shape; style.css has the keys alike
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3], [12, 4], [1, 4]];
const SHAPES = ["circle", "rect", "triangle", "rectRot", "rectRounded", "star"];
const FONT = 12, AREA = "4d";                                       // pixels; opacity, of 255, as a colour's last digits

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

/* Drawing: a canvas becomes a chart once it is in the page. */

const waiting = new WeakMap();      // canvas: its configuration
let palette = new Map();

/** A colour of style.css, as it is when asked for. */
const colour = (name, opacity = "") => () => {
    if (!palette.has(name))
        palette.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim().replace(/^#(.)(.)(.)$/, "#$1$1$2$2$3$3"));
    return palette.get(name) + opacity;
};

/**
 * Gives data sets the colours of the present scheme; each has functions for them in `colours`.  As functions of Chart.js's they would be asked for each
 * of a thousand points.
 */
function paint(data) {
    for (const set of data.datasets)
        for (const [member, value] of Object.entries(set.colours))
            set[member] = value();
}

const inView = new IntersectionObserver((entries) => entries.filter((e) => e.isIntersecting).forEach((e) => draw(e.target)), { rootMargin: "300px" });

function draw(canvas) {
    const config = waiting.get(canvas);
    inView.unobserve(canvas);
    if (!waiting.delete(canvas))
        return;
    for (const chart of Object.values(Chart.instances))
        if (!chart.canvas.isConnected)      // its page has been left
            chart.destroy();
    paint(config.data);
    new Chart(canvas, config);
}

Object.assign(Chart.defaults, { animation: false, maintainAspectRatio: false });
Object.assign(Chart.defaults.font, { family: "system-ui, sans-serif", size: FONT });
Chart.defaults.plugins.legend.display = false;      // the key is text of the page
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    palette = new Map();
    for (const chart of Object.values(Chart.instances)) {
        paint(chart.data);
        chart.update();
    }
});
addEventListener("beforeprint", () => document.querySelectorAll("canvas").forEach(draw));

/** What is put into a page: drawn at once if it is in it by the end of this turn, so that nothing flickers, else when it comes into view. */
function drawing(words, height, config) {
    const canvas = h("canvas", { role: "img", "aria-label": words }), box = h("div", { class: "plot" }, canvas);
    box.style.height = `${height}px`;
    waiting.set(canvas, config);
    queueMicrotask(() => canvas.isConnected ? draw(canvas) : inView.observe(canvas));
    return box;
}

const key = (name, kind) => h("span", { class: "key" }, h("span", { class: `swatch ${kind}` }), name);

function figure(title, keys, drawings, name, rows) {
    return h("figure", null, h("figcaption", null, h("b", null, title), keys.map(([text, kind]) => key(text, kind)), dataLinks(name, rows)), drawings);
}

function range(values) {
    let low = Infinity, high = -Infinity;
    for (const v of values)
        if (Number.isFinite(v)) {
            low = Math.min(low, v);
            high = Math.max(high, v);
        }
    return low > high ? [0, 1] : low === high ? [low - 1, high + 1] : [low, high];
}

/** A linear axis; `more` are options of Chart.js, those of its ticks in more.ticks. */
function axis(title, [min, max] = [], { ticks, grid, ...more } = {}) {
    return { type: "linear", min, max, title: { display: !!title, text: title, color: colour("--ink") }, border: { display: false },
        grid: { color: colour("--rule"), borderColor: colour("--rule"), ...grid },
        ticks: { color: colour("--ink"), callback: (v) => number(v, 4), maxRotation: 0, ...ticks }, ...more };
}

/** An axis of names, which are cut where they would take more than two fifths of the chart. */
function nameAxis(names) {
    const most = (chart) => Math.max(8, Math.floor(chart.width * 0.4 / (FONT * 0.55)));
    return axis("", [], { type: "category", labels: names, grid: { display: false }, ticks: { autoSkip: false, crossAlign: "far", callback(_, i) {
        const n = most(this.chart), name = String(names[i]);
        return name.length > n ? `…${name.slice(1 - n)}` : name;
    } } });
}

const line = (i, more) => ({ colours: { borderColor: colour(COLOURS[i]), backgroundColor: colour(COLOURS[i], AREA) }, borderWidth: 2, borderDash: DASHES[i],
    pointRadius: 0, pointHitRadius: 6, ...more });

const fill = (backgroundColor) => ({ backgroundColor });

const titled = (title, label) => ({ callbacks: { title: (items) => items.length ? title(items[0]) : "", label } });

/** Text beside the elements of a data set that has `texts`. */
const texts = { id: "texts", afterDatasetsDraw(chart) {
    const { ctx, chartArea } = chart;
    ctx.save();
    ctx.fillStyle = colour("--ink")();
    ctx.font = `${FONT}px ${Chart.defaults.font.family}`;
    ctx.textBaseline = "middle";
    chart.data.datasets.forEach((set, i) => (set.texts || []).forEach((text, k) => {
        const { x, y, base = x } = chart.getDatasetMeta(i).data[k], left = set.aside && x > chartArea.left + chartArea.width * 0.6;
        ctx.textAlign = left ? "right" : "left";
        ctx.fillText(text, Math.max(x, base) + (left ? -10 : set.aside ? 10 : 5), y - (set.aside ? 9 : 0));
    }));
    ctx.restore();
} };

/* The kinds of figures. */

/** Horizontal bars, in the order given: rows of {label, value, href}.  More than `most` are shown on request.  `axis` has more options of their axis. */
export function bars(title, unit, rows, { name, what = "layer", show = number, most = 30, all = false, axis: more = { beginAtZero: true } } = {}) {
    const shown = all ? rows : rows.slice(0, most);
    const words = rows.length ? `The first is ${rows[0].label} with ${number(rows[0].value)} ${unit}.` : "There are none.";
    const made = figure(title, [], drawing(`${title}. ${words}`, shown.length * 20 + 50, { type: "bar", plugins: [texts],
        data: { datasets: [{ data: shown.map((r) => r.value), colours: fill(colour("--a")), texts: shown.map((r) => show(r.value)), minBarLength: 1 }] },
        options: { indexAxis: "y", layout: { padding: { right: 60 } },
            scales: { y: nameAxis(shown.map((r) => r.label)), x: axis(unit, [], more) },
            onClick: (_, [at]) => { if (at && shown[at.index].href) location.hash = shown[at.index].href; },
            plugins: { tooltip: titled((item) => shown[item.dataIndex].label, (item) => `${show(shown[item.dataIndex].value)} ${unit}`) } } }),
    name, [[what, unit], ...rows.map((r) => [r.label, r.value])]);
    if (shown.some((r) => r.href))      // a click on a bar is for those who see it and have a mouse
        made.append(h("details", null, h("summary", null, "The same as links"), h("ol", null, shown.map((r) => h("li", null,
            r.href ? h("a", { href: r.href }, r.label) : r.label, `: ${show(r.value)} ${unit}`)))));
    if (!all && rows.length > most)
        made.append(h("button", { class: "do", click: () => made.replaceWith(bars(title, unit, rows, { name, what, show, most, all: true, axis: more })) },
            `Show all ${rows.length}`));
    return made;
}

/** Lines over the index: series of {name, values}; null values leave a gap, and a value between two gaps is a dot. */
export function lines(title, xTitle, yTitle, series, { name, labels, at, zero } = {}) {
    const n = Math.max(2, ...series.map((one) => one.values.length)), place = (i) => at ? at[i] : i, given = (values, i) => Number.isFinite(values[i]);
    const words = series.map((one) => `${one.name}: from ${number(range(one.values)[0])} to ${number(range(one.values)[1])}`).join("; ");
    const alone = (values, k) => given(values, k) && !given(values, k - 1) && !given(values, k + 1);
    const dots = (values) => values.some((_, k) => alone(values, k)) ? values.map((_, k) => alone(values, k) ? 2.5 : 0) : 0;
    const sets = series.map(({ name: label, values }, i) => line(i, { label, data: values.map((v, k) => ({ x: place(k), y: given(values, k) ? v : null })),
        pointRadius: dots(values) }));
    return figure(title, series.map((one, i) => [one.name, `k${i} d${i}`]), drawing(`${title}. ${words}`, 260, { type: "line", data: { datasets: sets },
        options: { interaction: { mode: "index", intersect: false }, scales: { x: axis(xTitle, at ? range(at) : [0, n - 1]),
            y: axis(yTitle, [], { suggestedMin: zero ? 0 : undefined, suggestedMax: zero ? 1 : undefined }) },
        plugins: { tooltip: titled((item) => labels ? labels[item.dataIndex] : `${xTitle} ${number(item.parsed.x)}`) } } }),
    name, [["index", ...(labels ? ["label"] : []), ...series.map((one) => one.name)],
        ...Array.from({ length: n }, (_, i) => [i, ...(labels ? [labels[i]] : []), ...series.map((one) => one.values[i])])]);
}

const log = (count) => Math.log10(1 + count);

/** Counts before (an area) and after (a line) over one range, on a logarithmic axis, with lines where values are clipped. */
export function histogram(title, { before, after, clips = [], name }) {
    const n = before.counts.length, width = (before.max - before.min) / n || 1, edge = (i) => before.min + i * width;
    const last = before.max > before.min ? before.max : before.min + 1, shown = clips.filter((v) => v >= before.min && v <= last);
    const top = Math.max(1, ...[before, after].filter(Boolean).flatMap((one) => one.counts.map(log)));
    const decades = [0, ...Array.from({ length: Math.floor(top) + 1 }, (_, i) => log(10 ** i))]
        .filter((t, i, all) => t <= top && (all.length < 7 || i % 2 === 0)).map((value) => ({ value }));
    const steps = (one) => [...one.counts.map((c, i) => ({ x: edge(i), y: log(c) })), { x: edge(n), y: 0 }];
    const sets = [line(0, { label: "before", data: steps(before), stepped: true, borderWidth: 0, fill: "origin" }),
        after && line(1, { label: "after", data: steps(after), stepped: true, borderDash: [] }),
        ...shown.map((x) => line(0, { label: "clip", data: [{ x, y: 0 }, { x, y: top }], colours: { borderColor: colour("--bad") }, borderDash: [5, 3] }))];
    const cut = clips.length ? `, clipped at ${clips.map((c) => number(c, 4)).join(" and ")}` : "";
    const words = `Values from ${number(before.min, 4)} to ${number(before.max, 4)}${cut}.`;
    const count = (item) => `${item.dataset.label}: ${number(10 ** item.parsed.y - 1, 0)}`;
    return figure(title, [["before", "k0 area"], ...(after ? [["after", "k1"]] : []), ...(clips.length ? [["clip", "clip"]] : [])],
        drawing(`${title}. ${words}`, 240, { type: "line", data: { datasets: sets.filter(Boolean) }, options: {
            scales: { x: axis("value", [before.min, last], { ticks: { includeBounds: false } }),
                y: axis("count", [0, top], { afterBuildTicks: (y) => { y.ticks = decades; }, ticks: { callback: (t) => number(10 ** t - 1, 0) } }) },
            plugins: { tooltip: titled((item) => number(item.parsed.x, 4), (item) => item.dataset.label === "clip" ? "clip" : count(item)) } } }),
        name, [["from", "to", "before", "after"], ...before.counts.map((c, i) => [edge(i), edge(i + 1), c, after ? after.counts[i] : ""])]);
}

/** Ranges of channels before and after, widest first, as two ribbons. */
export function ribbons(title, c, { name }) {
    const order = [...c.min_before.keys()].sort((a, b) => c.max_before[b] - c.min_before[b] - c.max_before[a] + c.min_before[a]);
    const edge = (values) => order.map((at, i) => ({ x: i, y: values[at] }));
    const ribbon = (i, label, low, high, more) => [line(i, { label: `${label}, highest`, data: edge(high), borderDash: [], ...more, fill: "+1" }),
        line(i, { label: `${label}, lowest`, data: edge(low), borderDash: [], ...more })];
    const sets = [...ribbon(1, "after", c.min_after, c.max_after), ...ribbon(0, "before", c.min_before, c.max_before, { borderWidth: 1 })];
    const ratio = (low, high) => {
        const w = order.map((i) => high[i] - low[i]).filter((v) => v > 0);
        return w.length ? Math.max(...w) / Math.min(...w) : null;
    };
    const words = `Widest to narrowest: ${number(ratio(c.min_before, c.max_before))} before, ${number(ratio(c.min_after, c.max_after))} after.`;
    const drawn = drawing(`${title}. ${words}`, 260, { type: "line", data: { datasets: sets }, options: { interaction: { mode: "index", intersect: false },
        scales: { x: axis("channels, the widest first", [0, Math.max(1, order.length - 1)]), y: axis("range") },
        plugins: { tooltip: titled((item) => `channel ${order[item.dataIndex]}`) } } });
    const made = figure(title, [["before", "k0 area"], ["after", "k1 area"]], drawn, name, [["channel", "min_before", "max_before", "min_after", "max_after"],
        ...order.map((i) => [i, c.min_before[i], c.max_before[i], c.min_after[i], c.max_after[i]])]);
    made.append(h("p", { class: "soft" }, words));
    return made;
}

/** How often each code occurs. */
function codeBars(words, counts, height, colours, scales) {
    const sets = [{ data: counts, colours: fill(colours), categoryPercentage: 1 }];
    return drawing(words, height, { type: "bar", data: { labels: counts.map((_, i) => i), datasets: sets },
        options: { scales, plugins: { tooltip: titled((item) => `code ${item.dataIndex}`) } } });
}

export function codes(title, counts, words, { name }) {
    const made = figure(title, [], codeBars(`${title}. ${words}`, counts, 220, colour("--a"),
        { x: axis("code", [], { type: "category", ticks: { callback: (i) => i } }), y: axis("count", [], { beginAtZero: true }) }),
    name, [["code", "count"], ...counts.map((c, i) => [i, c])]);
    made.append(h("p", { class: "soft" }, words));
    return made;
}

/** The codes of each head, small and side by side: a list of counts, and for each {head, zero, saturated} in percent. */
export function heads(title, codes, facts, { name }) {
    const small = codes.map((counts, i) => {
        const words = `head ${facts[i].head}: zero ${number(facts[i].zero, 1)} %, saturated ${number(facts[i].saturated, 1)} %`;
        const colours = () => counts.map((_, at) => colour(at === counts.length - 1 ? "--b" : at ? "--a" : "--c")());
        return h("div", { class: "head" }, codeBars(`${title}, ${words}`, counts, 64, colours,
            { x: { type: "category", display: false }, y: { display: false, beginAtZero: true } }), h("p", null, words));
    });
    return figure(title, [["highest level", "k2 area"], ["levels", "k0 area"], ["zero", "k1 area"]], h("div", { class: "heads" }, small),
        name, [["head", ...codes[0].map((_, i) => `code_${i}`)], ...codes.map((counts, i) => [facts[i].head, ...counts])]);
}

/** Spans of time under each other: rows of {name, from, to} in seconds. */
export function gantt(title, rows, { name }) {
    const words = `${rows.map((r) => `${r.name} took ${number(r.to - r.from, 1)} s`).join(", ")}.`;
    return figure(title, [], drawing(`${title}. ${words}`, rows.length * 24 + 50, { type: "bar",
        data: { datasets: [{ data: rows.map((r) => [r.from, r.to]), colours: fill(colour("--a")), minBarLength: 1 }] },
        options: { indexAxis: "y", scales: { y: nameAxis(rows.map((r) => r.name)), x: axis("seconds", [0, Math.max(0.001, ...rows.map((r) => r.to))]) },
            plugins: { tooltip: titled((item) => rows[item.dataIndex].name, ({ dataIndex: i }) => `${number(rows[i].to - rows[i].from, 2)} s`) } } }),
    name, [["stage", "from_seconds", "to_seconds"], ...rows.map((r) => [r.name, r.from, r.to])]);
}

/** Points of {label, x, y}; those that another one beats in both are hollow. */
export function pareto(title, xTitle, yTitle, points, { name }) {
    const spread = ([low, high]) => [low - (high - low) * 0.1, high + (high - low) * 0.15];
    const across = (title, member) => axis(title, spread(range(points.map((p) => p[member]))), { ticks: { includeBounds: false } });
    const beaten = (p) => points.some((q) => q.x <= p.x && q.y >= p.y && (q.x < p.x || q.y > p.y));
    const sets = points.map((p, i) => ({ label: p.label, data: [{ x: p.x, y: p.y }], pointStyle: SHAPES[i], pointRadius: 7, pointHoverRadius: 8,
        borderWidth: 2, colours: { borderColor: colour(COLOURS[i]), backgroundColor: beaten(p) ? () => "transparent" : colour(COLOURS[i]) },
        texts: [p.label + (beaten(p) ? " (dominated)" : "")], aside: true }));
    const words = points.map((p) => `${p.label}: ${number(p.x)}, ${number(p.y)}`).join("; ");
    const keys = points.map((p, i) => [p.label, `k${i} area`]);
    return figure(title, keys, drawing(`${title}. ${words}`, 300, { type: "scatter", data: { datasets: sets }, plugins: [texts], options: {
        scales: { x: across(xTitle, "x"), y: across(yTitle, "y") },
        plugins: { tooltip: titled((item) => item.dataset.label, ({ parsed: p }) => `${xTitle} ${number(p.x)}, ${yTitle} ${number(p.y)}`) } } }),
    name, [["job", xTitle, yTitle], ...points.map((p) => [p.label, p.x, p.y])]);
}
