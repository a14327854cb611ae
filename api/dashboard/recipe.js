// recipe.js - the next recipe from what was picked, kept for the page that submits it.

import { fitting } from "./dom.js";

const KEY = "recipe", NAME = 64, NEXT = "-next";

/**
 * The recipe with layers excluded or raised to 8 bits.  picked: name => "exclude" | "raise".  Of overrides the first that fits counts; a raised layer
 * is excluded no more where it was by its name.
 */
export function nextRecipe(recipe, picked) {
    const of = (what) => [...picked].filter(([, w]) => w === what).map(([name]) => name);
    const raised = of("raise"), next = structuredClone(recipe);
    next.name = fitting((recipe.name || recipe.method).replace(/-next$/, ""), NAME - NEXT.length) + NEXT;
    next.exclude = [...new Set([...recipe.exclude.filter((name) => !raised.includes(name)), ...of("exclude")])];
    next.overrides = [...raised.map((match) => ({ match, weights: { bits: 8 }, activations: { bits: 8 } })),
        ...recipe.overrides.filter((o) => o.part || !raised.includes(o.match))];
    return next;
}

/** A recipe as people read and edit it; texts are compared, too. */
export function recipeText(recipe) {
    return JSON.stringify(recipe, null, 1);
}

export function keepRecipe(recipe) {
    sessionStorage.setItem(KEY, recipeText(recipe));
}

/** Its text, once. */
export function takeRecipe() {
    const text = sessionStorage.getItem(KEY);
    sessionStorage.removeItem(KEY);
    return text;
}
