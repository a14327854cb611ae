/* `repquant inspect`: what a model is and what can be done with it. */
#include "core/cli/cli.h"
#include "core/cli/inventory.h"

#define SYNOPSIS "inspect MODEL [--json]"

static void print_values(const char *title, const struct graph *g, const int *values, int n)
{
    for (int i = 0; i < n; i++) {
        char shape[256];
        const struct value *v = &g->values[values[i]];
        printf("%-10s %s  %s %s\n", i ? "" : title, v->name, dtype_name(v->dtype), graph_shape_text(g, &v->shape, shape, sizeof shape));
    }
}

static void print_ops(const struct graph *g)
{
    int counts[OPS] = { 0 };
    printf("operators ");
    for (int i = 0; i < g->n_nodes; i++)
        counts[g->nodes[i].op]++;
    for (int op = 0; op < OPS; op++)
        if (counts[op])
            printf(" %s %d", op_info[op].type, counts[op]);
    printf("\n");
}

static void print_layers(const struct graph *g, const struct roles *r)
{
    printf("\n%-36s %-8s %-14s %s\n", "layer", "op", "role", "shape");
    for (int i = 0; i < r->n_layers; i++) {
        const struct layer *l = &r->layers[i];
        printf("%-36s %-8s %-14s ", l->name, op_info[g->nodes[l->node].op].type, layer_role_name[l->kind]);
        if (l->weight >= 0)
            printf("%lld x %lld%s\n", (long long)l->k, (long long)l->n, l->shared_weight ? " (shared weight)" : "");
        else
            printf("two activations\n");
    }
}

/* Of the inventory, what the graph itself does not tell. */
static void print_recipes(const json_t *inventory)
{
    const json_t *row;
    size_t i;
    printf("parameters %lld\n\n%-36s %s\n", (long long)json_integer_value(json_object_get(inventory, "parameters")), "recipe", "layers it quantizes");
    json_array_foreach(json_object_get(inventory, "methods"), i, row)
        printf("%-36s %lld, %lld stay in float\n", json_string_value(json_object_get(row, "recipe")),
               (long long)json_integer_value(json_object_get(row, "quantizes")), (long long)json_integer_value(json_object_get(row, "stays_float")));
}

static void print_text(const struct loaded_model *m, const struct roles *r)
{
    const struct graph *g = m->g;
    json_t *inventory = inventory_json(m, r);
    printf("format     onnx, opset %lld, ir %lld, %s\n", (long long)g->opset, (long long)m->onnx.ir_version,
           m->onnx.producer_name && m->onnx.producer_name[0] ? m->onnx.producer_name : "unknown producer");
    print_values("inputs", g, g->inputs, g->n_inputs);
    print_values("outputs", g, g->outputs, g->n_outputs);
    printf("nodes      %d after folding\n", g->n_nodes);
    print_ops(g);
    printf("roles      %d layers, %d norms, %d softmaxes, %d activations\n", r->n_layers, r->n_norms, r->n_softmaxes, r->n_activations);
    print_recipes(inventory);
    json_decref(inventory);
    print_layers(g, r);
    if (r->n_left)
        printf("\nstays in float\n");
    for (int i = 0; i < r->n_left; i++)
        printf("  %s (%s): %s\n", g->nodes[r->left[i].node].name, op_info[g->nodes[r->left[i].node].op].type, r->left[i].reason);
    printf("  normalisations, softmax and activations are computed in float by every recipe\n");
}

int command_inspect(int argc, char **argv)
{
    bool json = false;
    const char *path;
    const struct cli_option options[] = {
        { "json", CLI_FLAG, &json, 0, 0, false, "the inventory as JSON" },
    };
    struct err e = { 0 };
    struct loaded_model m = { 0 };
    struct roles r;
    int code = 0;
    if (!cli_parse(SYNOPSIS, options, 1, argc, argv, &path, 1, &code))
        return code;
    if (!load_model_path(&m, path, &e) || !roles_find(m.g, m.mem, &r, &e))
        code = cli_fail(&e);
    else if (json)
        code = cli_print_json(stdout, inventory_json(&m, &r)) ? 0 : err_exit_code(ERR_IO);
    else
        print_text(&m, &r);
    loaded_model_release(&m);
    return code;
}
