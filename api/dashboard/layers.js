// layers.js - what quantization did to each layer, and a picker that makes the next recipe.
import { h } from "./dom.js";
import { get, may } from "./api.js";
import { dataLinks } from "./chart.js";
import { columns, compareLayers, errorPlots, layerCell } from "./overview.js";
import { windowed } from "./rows.js";
import { keepRecipe, nextRecipe, recipeText } from "./recipe.js";

const choices = [["", "keep"], ["exclude", "exclude"], ["raise", "8 bits"]];

/**
 * What the next recipe does with a layer: a button, and in its place while it is used the list of choices.  A list of its own for each row would
 * cost as much as the rest of the row together.
 */
function choiceOf(layer, value, picked) {
    const name = `next recipe: ${layer.name}`, button = h("button", { class: "pick", "aria-haspopup": "listbox", click: open });
    function told() {
        const [, text] = choices.find(([key]) => key === value);
        button.textContent = text;
        button.setAttribute("aria-label", `${text}, ${name}`);
    }
    function open() {
        const change = () => { value = list.value; picked(value); }, blur = () => { told(); list.replaceWith(button); };
        const list = h("select", { "aria-label": name, change, blur },
            choices.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));
        button.replaceWith(list);
        list.focus();
        if (list.showPicker && navigator.userActivation.isActive)
            list.showPicker();
    }
    told();
    return button;
}

function row(id, layer, { picked, pick }) {
    const value = picked.get(layer.name) || "";
    const choice = choiceOf(layer, value, (now) => { pick(layer, now); tr.classList.toggle("picked", !!now); });
    const cells = columns.map((c) => h("td", { class: c.n ? "n" : c.key === "name" && "name",
        title: c.key === "actual_precision" && layer.skip_reason }, c.key === "name"
        ? h("a", { title: layer.name, href: `#/jobs/${id}/layers/${layer.index}` }, layer.name) : layerCell(c, layer)));
    cells.splice(2, 0, h("td", null, choice));
    const tr = h("tr", { class: value && "picked" }, cells);
    return tr;
}

/** The picker's half: what was picked, kept while the tab is open, and the recipe that follows from it. */
function picker(job, layers) {
    const key = `picked ${job.id}`, picked = new Map(JSON.parse(sessionStorage.getItem(key) || "[]"));
    const count = h("span", { role: "status" }), text = h("pre", { tabindex: "0" }), vain = h("p", { class: "note warn" });
    const go = h("button", { class: "do main", click: () => {
        keepRecipe(nextRecipe(job.recipe, picked));
        sessionStorage.removeItem(key);
        location.hash = `#/new?from=${job.id}`;
    } }, "New job with this recipe");
    function draw() {
        const next = nextRecipe(job.recipe, picked), excluded = [...picked.values()].filter((w) => w === "exclude").length;
        const still = layers.filter((l) => picked.get(l.name) === "raise" && next.exclude.some((name) => l.skip_reason === `excluded by "${name}"`));
        count.textContent = picked.size ? `${excluded} excluded, ${picked.size - excluded} raised to 8 bits.` : "Nothing is picked.";
        go.disabled = text.hidden = !picked.size;
        text.textContent = recipeText(next);
        vain.hidden = !still.length;
        vain.textContent = `A pattern of the recipe excludes it all the same: ${still.map((l) => `${l.name} is ${l.skip_reason}`).join("; ")}.`;
    }
    function pick(layer, what) {
        what ? picked.set(layer.name, what) : picked.delete(layer.name);
        picked.size ? sessionStorage.setItem(key, JSON.stringify([...picked])) : sessionStorage.removeItem(key);
        draw();
    }
    draw();
    return { picked, pick, element: [h("h2", null, "Next recipe"),
        h("p", null, "Pick in the table what shall stay float or get more bits. ", count), vain, h("p", null, may("jobs:write") && go), text] };
}

export async function layersPage(place, { path: [id], query, signal }) {
    const [job, { data: layers }] = await Promise.all([get(`/v1/jobs/${id}`, signal), get(`/v1/jobs/${id}/layers`, signal)]);
    let worst = query.get("worst");
    let key = columns.some((c) => c.key === query.get("sort")) ? query.get("sort") : "index", sign = query.get("order") === "desc" ? -1 : 1;
    const choice = picker(job, layers), rows = new Map(), body = h("tbody");
    const show = windowed(body, columns.length + 1, (l) => {
        if (!rows.has(l))
            rows.set(l, row(id, l, choice));
        return rows.get(l);
    }, signal);
    const filter = h("input", { id: "filter", type: "search", value: query.get("filter") || "", input: () => draw() });
    const heads = columns.map((c) => h("th", { scope: "col", class: c.n ? `n ${c.key}` : c.key }, h("button", { click: () => {
        sign = key === c.key ? -sign : 1;
        key = c.key;
        draw();
    } }, c.title)));
    function draw() {
        show(layers.filter((l) => l.name.includes(filter.value)).sort(compareLayers(key, sign)));
        heads.forEach((th, i) => columns[i].key === key
            ? th.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending") : th.removeAttribute("aria-sort"));
        remember();
    }
    function remember() {
        const address = new URLSearchParams({ sort: key, order: sign > 0 ? "asc" : "desc", ...(filter.value && { filter: filter.value }),
            ...(worst && { worst }) });
        history.replaceState(null, "", `#/jobs/${id}/layers?${address}`);
    }
    place.append(h("h1", null, "Layers"), h("p", { class: "mono" }, h("a", { href: `#/jobs/${id}` }, id)));
    if (!layers.length) {
        place.append(h("p", null, "No layer is finished yet."));
        return;
    }
    place.append(...errorPlots(id, layers, { hrefOf: (l) => `#/jobs/${id}/layers/${l.index}`, by: worst, told: (measure) => { worst = measure; remember(); } }),
    h("div", { class: "row" }, h("label", { for: "filter" }, "Name holds "), filter,
        dataLinks(`${id}-layers`, [columns.map((c) => c.key), ...layers.map((l) => columns.map((c) => l[c.key]))])),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Layers" },
        h("table", { class: "window", "aria-label": "Layers", "aria-rowcount": layers.length + 1 },
        h("thead", null, h("tr", null, heads.slice(0, 2), h("th", { scope: "col", class: "pick" }, "Next recipe"), heads.slice(2))), body)), ...choice.element);
    draw();
}
