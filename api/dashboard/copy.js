// copy.js - text for a shell, with a button that copies it.
import { h } from "./dom.js";

/** A block of text that update() makes anew; where the browser lends no clipboard (plain http from elsewhere) it is selected instead. */
export function copyable(title, make) {
    const text = h("pre", { tabindex: "0", role: "region", "aria-label": title }, make()), told = h("span", { role: "status" });
    const button = h("button", { class: "do", type: "button", "aria-label": `Copy: ${title}`, click: async () => {
        try {
            await navigator.clipboard.writeText(text.textContent);
            told.textContent = "Copied.";
        } catch {
            getSelection().selectAllChildren(text);
            told.textContent = "Selected; copy it with the keyboard.";
        }
    } }, "Copy");
    return { element: h("div", null, text, h("p", { class: "row" }, button, told)), update: () => { text.textContent = make(); told.textContent = ""; } };
}
