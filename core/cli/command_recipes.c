/* `repquant recipes`: the presets, one preset as JSON, or the schema. */
#include "core/cli/cli.h"
#include "core/recipe/recipe.h"

#define SYNOPSIS "recipes [NAME] [--schema]"

static int list_presets(void)
{
    size_t n;
    const struct recipe_preset *p = recipe_presets(&n);
    for (size_t i = 0; i < n; i++)
        printf("%-24s %s\n", p[i].name, p[i].description);
    return 0;
}

static int print_recipe(const char *name)
{
    struct recipe r;
    struct err e = { 0 };
    char quoted[RECIPE_MAX_NAME + 8];
    const struct recipe *preset = recipe_preset(name);
    if (preset)
        return cli_print_json(stdout, recipe_json(preset)) ? 0 : err_exit_code(ERR_IO);
    int n = snprintf(quoted, sizeof quoted, "\"%.*s\"", RECIPE_MAX_NAME, name);
    if (recipe_parse(quoted, (size_t)n, &r, &e))       /* cannot be: it is no preset.  The parser knows how to say so. */
        err_set(&e, ERR_RECIPE_UNKNOWN, name, "no recipe has this name");
    return cli_fail(&e);
}

int command_recipes(int argc, char **argv)
{
    bool schema = false;
    const char *name = NULL;
    const struct cli_option options[] = {
        { "schema", CLI_FLAG, &schema, 0, 0, false, "the JSON Schema of recipes" },
    };
    int code = 0;
    if (!cli_parse(SYNOPSIS, options, 1, argc, argv, &name, argc > 1 && argv[argc - 1][0] != '-' ? 1 : 0, &code))
        return code;
    if (schema)
        return cli_print_json(stdout, recipe_schema()) ? 0 : err_exit_code(ERR_IO);
    return name ? print_recipe(name) : list_presets();
}
