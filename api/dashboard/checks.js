// checks.js - does a data set fit a model?  Asked of the service, shown as a table.
import { h, problem, table } from "./dom.js";
import { post } from "./api.js";

function shown(v) {
    return h("div", { class: `note ${v.ok ? "good" : "bad"}` }, h("p", null, v.ok ? "The data fit the model." : "The data do not fit the model."),
        table("Checks", [{ title: "Level", cell: (c) => c.level }, { title: "What", class: "name", cell: (c) => c.detail },
            { title: "Remedy", class: "name", cell: (c) => c.remedy || "–" }], v.checks));
}

/** A function (model id, data set id) that fills the place with what the service says of the two; of several questions the last counts. */
export function checker(place) {
    let asked = 0;
    return async (model, data) => {
        const turn = ++asked;
        if (!model || !data)
            return place.replaceChildren();
        let told;
        try {
            told = shown(await post(`/v1/datasets/${data}/validations`, { model_id: model }));
        } catch (e) {
            told = problem(e);
        }
        if (turn === asked)
            place.replaceChildren(told);
    };
}
