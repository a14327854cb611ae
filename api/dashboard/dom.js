// dom.js - makes elements.  Text is only ever set as text: nothing here, or anywhere in these pages, parses HTML.

/** An element: h("a", {href: "#/", click: f}, "text", other, [more]).  A function is a listener, false and null leave the attribute out. */
export function h(tag, props, ...kids) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(props || {})) {
        if (value === null || value === undefined || value === false)
            continue;
        if (typeof value === "function")
            element.addEventListener(name, value);
        else
            element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...kids.flat(Infinity).filter((kid) => kid !== null && kid !== undefined && kid !== false));
    return element;
}

const formats = new Map();      // by digits: to make one takes longer than a row of a table

function format(digits) {
    if (!formats.has(digits))
        formats.set(digits, new Intl.NumberFormat("en", { maximumFractionDigits: digits }));
    return formats.get(digits);
}

export function number(value, digits = 2) {
    return value === null || value === undefined ? "–" : format(digits).format(Number(value));
}

export function bytes(n) {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let unit = 0;
    for (; n >= 1000 && unit < units.length - 1; unit++)
        n /= 1000;
    return `${number(n, unit ? 1 : 0)} ${units[unit]}`;
}

/** How long from one time to another, in the two largest units. */
export function seconds(from, to) {
    const exact = Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000), n = Math.round(exact);
    if (exact < 59.95)
        return `${number(exact, 1)} s`;
    const parts = [[Math.floor(n / 86400), "d"], [Math.floor(n / 3600) % 24, "h"], [Math.floor(n / 60) % 60, "min"], [n % 60, "s"]];
    return parts.slice(parts.findIndex(([many]) => many)).slice(0, 2).map(([many, unit]) => `${many} ${unit}`).join(" ");
}

/** As much of a text as fits into so many bytes of UTF-8. */
export function fitting(text, most) {
    return text.slice(0, new TextEncoder().encodeInto(text, new Uint8Array(most)).read);
}

export function time(text) {
    return text ? h("time", { datetime: text, title: text }, new Date(text).toLocaleString()) : "–";
}

export function state(job) {
    return h("span", { class: `state ${job.state}` }, job.state);
}

/** A problem document, or anything thrown, as a note. */
export function problem(e) {
    const about = e.pointer || e.where;
    return h("div", { class: "note bad", role: "alert" }, h("b", null, e.title || "That did not work"), ": ", e.detail || e.message || String(e),
        about ? [" (", h("code", null, about), ")"] : null, e.code ? h("div", { class: "soft" }, `${e.code}, request ${e.request_id || "–"}`) : null);
}

/** Rows of text, numbers or nodes; a column is {title, n: is it a number, cell: row => content}.  key(row) is what renew() knows a row by. */
export function table(caption, columns, rows, key = () => null) {
    return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, h("table", { "aria-label": caption },
        h("thead", null, h("tr", null, columns.map((c) => h("th", { scope: "col", class: c.n && "n" }, c.title)))),
        h("tbody", null, rows.map((row) => h("tr", { "data-key": key(row) }, columns.map((c) => h("td", { class: c.class || (c.n && "n") }, c.cell(row))))))));
}

/**
 * Makes a table say what another one says, row by row as their data-key tells: cells that say something else are exchanged, the others stay, with
 * the focus and a press upon them.  Rows that both have are in the same order in both.
 */
export function renew(table, made) {
    const body = table.tBodies[0], known = new Map([...body.rows].map((row) => [row.dataset.key, row]));
    let at = body.firstElementChild;
    for (const row of [...made.tBodies[0].rows]) {
        const old = known.get(row.dataset.key);
        if (!old) {
            body.insertBefore(row, at);
            continue;
        }
        known.delete(row.dataset.key);
        [...row.cells].forEach((cell, i) => cell.isEqualNode(old.cells[i]) || old.cells[i].replaceWith(cell));
        at = old.nextElementSibling;
    }
    known.forEach((row) => row.remove());
}

/** What things are called and what they are: rows of [name, value]. */
export function facts(rows) {
    return h("dl", null, rows.map(([name, value]) => [h("dt", null, name), h("dd", null, value)]));
}

export function card(value, what) {
    return h("li", { class: "card" }, h("b", null, value), h("span", null, what));
}

/** A button whose name also says of what; what goes wrong is told in `failed`. */
export function actionButton(text, label, failed, act) {
    return h("button", { class: "do", "aria-label": `${text} ${label}`, click: async () => {
        failed.replaceChildren();
        try {
            await act();
        } catch (e) {
            failed.replaceChildren(problem(e));
        }
    } }, text);
}

/** The same for what cannot be undone: the first press only makes it ask, and it forgets that when the focus leaves it. */
export function confirmedButton(text, label, failed, act) {
    let asked = false;
    const button = actionButton(text, label, failed, () => asked ? act() : ask(true));
    function ask(now) {
        asked = now;
        button.textContent = asked ? `Really ${text.toLowerCase()}?` : text;
        button.setAttribute("aria-label", `${button.textContent} ${label}`);
    }
    button.addEventListener("blur", () => ask(false));
    return button;
}
