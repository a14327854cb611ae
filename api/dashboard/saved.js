// saved.js - a recipe is saved under a name for the whole team.
import { h, problem } from "./dom.js";
import { post } from "./api.js";

/** A name and a button.  read() is the recipe's JSON; added(row, sent) hears what the team has under the name then, and what read() gave. */
export function saver(read, added) {
    const told = h("div", { "aria-live": "polite" });
    const name = h("input", { id: "recipe-name", maxlength: 64, spellcheck: "false", autocomplete: "off", form: "none", // Enter here asks for no job
        input: () => { button.disabled = !name.value; told.replaceChildren(); }, keydown: (event) => event.key === "Enter" && button.click() });
    const button = h("button", { class: "do", type: "button", disabled: true, click: async () => {
        const sent = read();
        button.disabled = name.readOnly = true;
        try {
            const row = await post("/v1/recipes", { name: name.value, recipe: JSON.parse(sent) });
            added(row, sent);
            name.value = "";
            told.replaceChildren(h("bdi", null, row.name), " is saved.");
        } catch (e) {
            told.replaceChildren(problem(e));
            button.disabled = false;
        }
        name.readOnly = false;
    } }, "Save");
    return h("div", null, h("div", { class: "field" }, h("label", { for: "recipe-name" }, "Save it for the team as "), name, " ", button), told);
}
