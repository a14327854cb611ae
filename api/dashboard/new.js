// new.js - model, data, recipe, submit; and the same as a line for a shell.
import { bytes, h, number, problem, table } from "./dom.js";
import { all, get, may, post } from "./api.js";
import { copyable } from "./copy.js";
import { checker } from "./checks.js";
import { mine } from "./queue.js";
import { recipeText, takeRecipe } from "./recipe.js";
import { saver } from "./saved.js";
import { register } from "./upload.js";

const SEVERAL = { title: "One file is taken here", detail: "A model of several files goes by the shell: repquantctl submit model.onnx model.onnx.data …" };

/**
 * One thing to choose among those registered, or to upload by picking or dropping a file.  uploads(+1 or -1) hears how many are on their way,
 * registered(row) of each that has arrived; offer(row) makes one a choice.
 */
function chooser({ id, kind, title, accept, rows, optional, changed, uploads, registered }) {
    const option = (r) => h("option", { value: r.id }, `${r.name} (${bytes(r.bytes)}, ${r.id})`);
    const select = h("select", { id, change: () => changed() }, h("option", { value: "" }, optional ? "none" : "choose …"), rows.map(option));
    const file = h("input", { id: `${id}-file`, type: "file", accept, change: () => { take(file.files); file.value = ""; } });
    const bar = h("progress", { max: 1, value: 0, hidden: true, "aria-label": `upload of the ${title}` }), told = h("div", { "aria-live": "polite" });
    async function take([picked, ...others]) {
        if (others.length)
            told.replaceChildren(problem(SEVERAL));
        if (!picked || others.length)
            return;
        bar.hidden = false;
        told.replaceChildren("Uploading ", h("bdi", null, picked.name), " …");
        uploads(+1);
        try {
            const made = await register(kind, picked, (part) => { bar.value = part; });
            registered(made);
            select.value = made.id;
            told.replaceChildren(h("bdi", null, picked.name), " is registered.");
        } catch (e) {
            told.replaceChildren(problem(e));
        }
        bar.hidden = true;
        uploads(-1);
    }
    const drop = (event) => { event.preventDefault(); box.classList.remove("over"); take(event.dataTransfer.files); };
    const dragover = (event) => { event.preventDefault(); box.classList.add("over"); }, dragleave = () => box.classList.remove("over");
    const box = h("fieldset", { dragover, dragleave, drop },
        h("legend", null, title), h("div", { class: "field" }, h("label", { for: id }, "Registered "), select),
        h("div", { class: "field" }, h("label", { for: `${id}-file` }, "or a file, also dropped here "), file), bar, told);
    return { box, select, kind, offer: (row) => select.append(option(row)) };
}

/** A file dropped beside the boxes is not for the browser, which would open it in the page's place. */
function keepPage(signal) {
    for (const kind of ["dragover", "drop"])
        addEventListener(kind, (event) => event.dataTransfer.types.includes("Files") && event.preventDefault(), { signal });
}

function curl(body) {
    return `curl -H "Authorization: Bearer $REPQUANT_TOKEN" -H 'Content-Type: application/json' ${location.origin}/v1/jobs \\\n     -d '${
        JSON.stringify(body).replaceAll("'", "'\\''")}'`;
}

/** One word of a shell, and never an option. */
function quoted(text) {
    const word = text.startsWith("-") ? `./${text}` : text;
    return /^[\w./@%+=:,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** The same job from files on one's own machine: they have the names under which they were registered here. */
function ctl(names, recipe) {
    return ["repquantctl submit", quoted(names.model || "model.onnx"), names.data && `--calibration ${quoted(names.data)}`,
        names.evaluation && `--evaluation ${quoted(names.evaluation)}`, "--recipe", quoted(recipe || "recipe.json"),
        "--wait --output out"].filter(Boolean).join(" ");
}

/** What a dry run says: memory, time, size, and what would go wrong. */
function plan(p) {
    const e = p.estimate, bad = p.problems.some((one) => one.level === "error");
    return h("div", { class: `note ${bad ? "bad" : "good"}` },
        e && h("p", null, `About ${number(e.seconds, 1)} s and ${bytes(e.memory_bytes)} of memory for ${e.samples} samples; `,
            `the model takes about ${bytes(e.output_bytes)}.`),
        h("p", null, bad ? "The job would fail." : "Nothing stands in its way."),
        p.problems.length ? table("Problems", [{ title: "Level", cell: (c) => c.level }, { title: "What", class: "name", cell: (c) => c.detail },
            { title: "Where", class: "name", cell: (c) => c.where || c.pointer || "–" }], p.problems) : null);
}

export async function newPage(place, { query, signal }) {
    const from = query.get("from"), kept = takeRecipe();
    const [models, datasets, recipes, before] = await Promise.all([all("/v1/models"), all("/v1/datasets"), get("/v1/recipes", signal),
        from && get(`/v1/jobs/${from}`, signal)]);
    let lines = { curl: "", cli: "" };
    const shells = [copyable("The job as a curl line", () => lines.curl), copyable("The job as a line of repquantctl", () => lines.cli)];
    const failed = h("div"), fit = h("div", { "aria-live": "polite" });
    let underway = 0;       // uploads: without them the job would be another one
    const uploads = (more) => { underway += more; more > 0 ? enable() : changed(); }, common = { changed, uploads, registered };
    const model = chooser({ id: "model", kind: "models", title: "Model", accept: ".onnx", rows: models, ...common });
    const data = chooser({ id: "data", kind: "datasets", title: "Calibration data",
        accept: ".npz,.safetensors,.zip", rows: datasets, optional: true, ...common });
    const evaluation = chooser({ id: "evaluation", kind: "datasets", title: "Evaluation data (optional)",
        accept: ".npz,.safetensors,.zip", rows: datasets, optional: true, ...common });
    const known = new Map();        // presets come first: one of this version is meant by its name, whatever the team has saved under that before
    recipes.data.forEach((r) => known.has(r.name) || known.set(r.name, r.recipe));
    const named = (name) => h("option", { value: name }, name), below = h("option", { value: "" }, "the one below");
    const preset = h("select", { id: "recipe", change: pick }, [...known.keys()].map(named), below);
    const text = h("textarea", { id: "recipe-text", rows: 12, spellcheck: "false", input: (event) => { preset.value = ""; changed(event); } },
        recipeText(recipes.data[0].recipe));
    const check = h("button", { class: "do", type: "button", disabled: true, click: async () => {
        check.disabled = true;
        try {
            planned.replaceChildren(plan(await post("/v1/jobs?dry_run=true", body())));
        } catch (e) {
            planned.replaceChildren(problem(e));
        }
        check.disabled = submit.disabled;
    } }, "Check"), planned = h("div", { "aria-live": "polite" });
    const submit = h("button", { class: "do main", disabled: true }, "Submit");
    const validate = checker(fit);

    function registered(row) {
        const rows = row.id.startsWith("mdl_") ? models : datasets;
        if (rows.some((r) => r.id === row.id))      // the same file was dropped twice
            return;
        rows.push(row);
        [model, data, evaluation].filter((one) => (one.kind === "models") === (rows === models)).forEach((one) => one.offer(row));
    }
    function cli(recipe) {
        const name = (one, rows) => (rows.find((r) => r.id === one.select.value) || {}).name;
        return ctl({ model: name(model, models), data: name(data, datasets), evaluation: name(evaluation, datasets) }, recipe);
    }
    function body() {
        const b = { type: "quantize", model_id: model.select.value, recipe: preset.value || JSON.parse(text.value),
            labels: { by: mine() } };
        if (data.select.value)
            b.dataset_id = data.select.value;
        if (evaluation.select.value)
            b.eval_dataset_id = evaluation.select.value;
        return b;
    }
    function enable(well = true) {
        check.disabled = submit.disabled = !well || !model.select.value || underway > 0;
    }
    function changed(event) {
        failed.replaceChildren();
        planned.replaceChildren();
        try {
            lines = { curl: curl(body()), cli: cli(preset.value) };
            shells.forEach((one) => one.update());
            enable();
        } catch (e) {
            enable(false);
            failed.replaceChildren(problem({ title: "The recipe is no JSON", detail: e.message }));
        }
        if (!event)
            validate(model.select.value, data.select.value);
    }
    /** What is picked is shown; what the team has saved is fetched for it. */
    async function pick(event) {
        const name = preset.value;
        changed(event);
        try {
            if (name && !known.get(name))
                known.set(name, await get(`/v1/recipes/${name}`, signal));
            if (name && preset.value === name)
                text.value = recipeText(known.get(name));
        } catch (e) {
            failed.replaceChildren(problem(e));
        }
    }
    function saved(row, sent) {
        if (!known.has(row.name))
            below.before(named(row.name));
        known.set(row.name, row.recipe);
        if (text.value !== sent)
            return;
        preset.value = row.name;
        pick(true);
    }
    async function send(event) {
        event.preventDefault();
        submit.disabled = true;
        try {
            location.hash = `#/jobs/${(await post("/v1/jobs", body())).id}`;
        } catch (e) {
            submit.disabled = false;
            failed.replaceChildren(problem(e));
        }
    }
    keepPage(signal);
    place.append(h("h1", null, "New job"), h("form", { submit: send }, model.box, data.box, evaluation.box, fit,
        h("fieldset", null, h("legend", null, "Recipe"), h("div", { class: "field" }, h("label", { for: "recipe" }, "Preset or saved "), preset),
            h("div", { class: "field" }, h("label", { for: "recipe-text" }, "or one of your own, as JSON"), text),
            may("models:write") && saver(() => text.value, saved)),
        h("h2", null, "From a shell"), shells.map((one) => one.element), failed, planned, h("p", { class: "row" }, check, submit)));
    if (before)
        for (const [one, value] of [[model, before.request.model_id], [data, before.request.dataset_id], [evaluation, before.request.eval_dataset_id]])
            one.select.value = value || "";
    for (const [one, name] of [[model, "model"], [data, "data"]])
        one.select.value = query.get(name) || one.select.value;
    const own = kept || before && recipeText(before.recipe);
    if (own) {
        const same = [...known].find(([, recipe]) => recipeText(recipe) === own);
        preset.value = same ? same[0] : "";
        text.value = own;
    }
    changed();
}
