// app.js - which page the address names.  A page is a function (element, {path, query, signal, ready}) that fills the element and goes on
// for as long as the signal is not aborted; one that goes on calls ready() once it is filled: until then the page is said to be busy.
// Filters and orders live in the address (#/queue?state=failed), so that links keep them.
import { h, problem } from "./dom.js";
import { logout, may, recognise, who } from "./api.js";
import { adminPage } from "./admin.js";
import { datasetPage, datasetsPage, modelPage, modelsPage } from "./assets.js";
import { comparePage } from "./compare.js";
import { jobPage } from "./job.js";
import { layerPage } from "./layer.js";
import { layersPage } from "./layers.js";
import { loginPage } from "./login.js";
import { newPage } from "./new.js";
import { queuePage } from "./queue.js";
import { webhookPage } from "./webhooks.js";
import { repquantPage } from "./repquant.js";

const pages = [
    { pattern: /^\/queue$/, show: queuePage, title: "Queue" },
    { pattern: /^\/new$/, show: newPage, title: "New job" },
    { pattern: /^\/models$/, show: modelsPage, title: "Models" },
    { pattern: /^\/models\/(mdl_\w+)$/, show: modelPage, title: "Model" },
    { pattern: /^\/datasets$/, show: datasetsPage, title: "Data sets" },
    { pattern: /^\/datasets\/(ds_\w+)$/, show: datasetPage, title: "Data set" },
    { pattern: /^\/webhooks\/(whk_\w+)$/, show: webhookPage, title: "Webhook" },
    { pattern: /^\/compare$/, show: comparePage, title: "Compare" },
    { pattern: /^\/admin$/, show: adminPage, title: "Administration" },
    { pattern: /^\/jobs\/(job_\w+)$/, show: jobPage, title: "Job" },
    { pattern: /^\/jobs\/(job_\w+)\/layers$/, show: layersPage, title: "Layers" },
    { pattern: /^\/jobs\/(job_\w+)\/repquant$/, show: repquantPage, title: "Norms and attention" },
    { pattern: /^\/jobs\/(job_\w+)\/layers\/(\d+)$/, show: layerPage, title: "Layer" },
];
const links = [["#/queue", "Queue"], ["#/new", "New job", "jobs:write"], ["#/models", "Models"], ["#/datasets", "Data sets"],
    ["#/admin", "Administration", "team:admin"]];

const header = document.getElementById("header"), main = document.getElementById("main");
let leave = new AbortController();
let known = false;

function parse() {
    const [path, search] = location.hash.slice(1).split("?", 2);
    return { path: path || "/queue", query: new URLSearchParams(search || "") };
}

function drawHeader(path) {
    const end = who.session && h("button", { class: "do", click: async () => {
        try {
            await logout();
            known = false;
            route();
        } catch (e) {
            main.prepend(problem(e));
        }
    } }, "Log out");
    header.replaceChildren(h("nav", { "aria-label": "Pages" }, h("a", { class: "brand", href: "#/queue" }, "RepQuant"),
        known && links.filter(([, , scope]) => !scope || may(scope)).map(([href, text]) =>
            h("a", { href, "aria-current": href === `#${path}` && "page" }, text)),
        known && h("span", { class: "who" }, h("bdi", null, who.name || "local"), ` · team ${who.team} · ${who.role}`), known && end));
}

/** moved: by a link or the browser's Back, so that the focus comes along, unless it is in the page already. */
async function route(moved) {
    leave.abort();
    leave = new AbortController();
    const { signal } = leave, { path, query } = parse();
    let filled = false;
    function ready() {
        if (signal.aborted || filled)
            return;
        filled = true;
        main.removeAttribute("aria-busy");
        if (moved && !main.contains(document.activeElement))
            main.focus({ preventScroll: true });
    }
    main.setAttribute("aria-busy", "true");
    try {
        known = known || await recognise();
        if (signal.aborted)
            return;
        drawHeader(path);
        const page = pages.find((p) => p.pattern.test(path)), place = h("div");
        document.title = `${known ? page ? page.title : "Nothing here" : "Log in"} · RepQuant`;
        main.replaceChildren(place);
        if (!known)
            loginPage(place, () => { known = true; route(); });
        else if (page)
            await page.show(place, { path: page.pattern.exec(path).slice(1).map(decodeURIComponent), query, signal, ready });
        else
            place.append(h("h1", null, "There is no such page"), h("p", null, h("a", { href: "#/queue" }, "To the queue")));
    } catch (e) {
        if (signal.aborted)
            return;
        if (e.status === 401) {         // the session has ended
            known = false;
            if (!document.querySelector("dialog"))
                route();
            return;
        }
        main.append(problem(e));
    } finally {
        ready();
    }
}

/** What was to be changed was refused since nobody is logged in any more: the page stays as it was filled in while somebody logs in again. */
function logInAgain() {
    if (document.querySelector("dialog"))
        return;
    const { team } = who, dialog = h("dialog", { "aria-label": "Log in", close: () => {
        dialog.remove();
        if (!known)                         // put away, and what polls has stopped: then the page is the log-in's
            route();
    } });
    document.body.append(dialog);
    loginPage(dialog, () => {
        const away = !known || who.team !== team;       // what polls has heard of it, too, and the page is the log-in's
        known = true;
        dialog.close();
        drawHeader(parse().path);
        if (away)
            route();
    });
    dialog.showModal();
}

document.addEventListener("loggedout", logInAgain);
document.addEventListener("another", () => route());
document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();         // the address is the page's name
    main.focus();
});
window.addEventListener("hashchange", () => route(true));
route();
