/*
 * fuzz_recipe.c - libFuzzer over the recipe parser.  What is refused says where and why; what is accepted is
 * written and read back as the same struct, and every pattern in it can be matched.
 */
#include "core/recipe/recipe.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct recipe r, again;
    struct recipe_choice choice;
    struct err e = { 0 };
    if (!recipe_parse((const char *)data, size, &r, &e)) {
        bool told = e.text[0] && (e.code == ERR_RECIPE_FIELD || e.code == ERR_RECIPE_COMBINATION || e.code == ERR_RECIPE_UNKNOWN);
        if (!told)
            abort();
        return 0;
    }
    recipe_match(&r, "/blocks.3/mlp/fc1/MatMul", RECIPE_FEED_FORWARD, &choice);
    char *text = recipe_text(&r);
    if (!text || !recipe_parse(text, strlen(text), &again, NULL) || memcmp(&r, &again, sizeof r) != 0)
        abort();
    free(text);
    return 0;
}
