// login.js - a token opens a session; the token itself is not kept.
import { h, problem } from "./dom.js";
import { login } from "./api.js";

export function loginPage(place, done) {
    const token = h("input", { id: "token", type: "password", autocomplete: "current-password", required: true, size: 48, "aria-describedby": "token-help" });
    const wrong = h("div", { "aria-live": "polite" });
    async function submit(event) {
        event.preventDefault();
        try {
            if (!await login(token.value.trim()))
                throw { title: "The browser did not keep the session", detail: "open these pages by https, or on the same machine as 127.0.0.1" };
            done();
        } catch (e) {
            wrong.replaceChildren(problem(e));
        }
    }
    place.append(h("h1", null, "Log in"), h("form", { submit }, h("p", null, h("label", { for: "token" }, "Token "), token),
        h("p", { id: "token-help", class: "soft" }, "A token begins with rq_. The first start of the service wrote an administrator's to the file ",
            h("code", null, "token"), " in its data folder; ask your team's administrator for one of your own."),
        h("button", { class: "do main" }, "Log in")), wrong);
    token.focus();
}
