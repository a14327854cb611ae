// rows.js - a table's body of any length, of which only what is in view exists: a browser lays out thirty rows in a frame, not a thousand.
import { h } from "./dom.js";

const BESIDE = 2, WHOLE = 40;      // rows that are there above and below what is in view; so many are all there at once

/** rowOf(item) makes a row, once; all rows have one height.  Returns what shows a list of items in place of the one before. */
export function windowed(body, columns, rowOf, signal) {
    const space = () => h("tr", { "aria-hidden": "true", class: "space" }, h("td", { colspan: columns })), above = space(), below = space();
    let items = [], from = 0, to = 0, height = 0, asked = false;

    /** Of a body whose upper edge is so far below the window's. */
    function inView(edge) {
        if (items.length <= WHOLE || !height)
            return [0, Math.min(items.length, WHOLE)];
        const top = -edge, first = Math.floor(top / height) - BESIDE, last = Math.ceil((top + innerHeight) / height) + BESIDE;
        const start = Math.min(items.length, Math.max(0, first));
        return [start, Math.max(start, Math.min(items.length, last))];      // none, where the table is out of view
    }
    /** Rows that stay are not touched, so that the focus stays where it is. */
    function update(edge) {
        const [a, b] = inView(edge);
        if (a >= to || b <= from) {
            for (let i = from; i < to; i++)
                above.nextSibling.remove();
            from = to = a;
        }
        for (; from < a; from++)
            above.nextSibling.remove();
        for (; to > b; to--)
            below.previousSibling.remove();
        if (from > a) {
            above.after(...items.slice(a, from).map(rowOf));
            from = a;
        }
        if (to < b) {
            below.before(...items.slice(to, b).map(rowOf));
            to = b;
        }
        if (!height && to > from) {
            height = above.nextSibling.getBoundingClientRect().height;
            update(edge);
            return;
        }
        above.firstChild.setAttribute("height", Math.round(from * height));
        below.firstChild.setAttribute("height", Math.round((items.length - to) * height));
    }
    const measured = () => body.getBoundingClientRect().top;
    const later = () => {
        if (!asked)
            requestAnimationFrame(() => { asked = false; update(measured()); });
        asked = true;
    };
    addEventListener("scroll", later, { passive: true, signal });
    addEventListener("resize", () => { height = 0; later(); }, { signal });
    return (list) => {
        const edge = measured();        // before anything is changed: afterwards it would be laid out only to be measured
        body.replaceChildren(above, below);
        items = list;
        from = to = 0;
        update(edge);
    };
}
