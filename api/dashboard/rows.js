// rows.js - a table's body of any length, of which only what is in view exists: a browser lays out fifty rows in a frame, not a thousand.
import { h } from "./dom.js";

const BESIDE = 15, WHOLE = 50;      // rows that are there above and below what is in view; so many are all there at once

/** rowOf(item) makes a row, once; all rows have one height.  Returns what shows a list of items in place of the one before. */
export function windowed(body, columns, rowOf, signal) {
    const space = () => h("tr", { "aria-hidden": "true", class: "space" }, h("td", { colspan: columns })), above = space(), below = space();
    let items = [], from = 0, to = 0, height = 0, asked = false;

    function inView() {
        if (items.length <= WHOLE || !height)
            return [0, Math.min(items.length, WHOLE)];
        const top = -body.getBoundingClientRect().top, first = Math.floor(top / height) - BESIDE, last = Math.ceil((top + innerHeight) / height) + BESIDE;
        const start = Math.max(0, Math.min(first, items.length - WHOLE));
        return [start, Math.min(items.length, Math.max(last, start + WHOLE))];
    }
    /** Rows that stay are not touched, so that the focus stays where it is. */
    function update() {
        asked = false;
        const [a, b] = inView();
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
        height = height || (to > from ? above.nextSibling.getBoundingClientRect().height : 0);
        above.firstChild.setAttribute("height", Math.round(from * height));
        below.firstChild.setAttribute("height", Math.round((items.length - to) * height));
    }
    const later = () => {
        if (!asked)
            requestAnimationFrame(update);
        asked = true;
    };
    addEventListener("scroll", later, { passive: true, signal });
    addEventListener("resize", () => { height = 0; later(); }, { signal });
    return (list) => {
        body.replaceChildren(above, below);
        items = list;
        from = to = 0;
        update();
    };
}
