#include "core/cli/inventory.h"

#include "core/method/method.h"
#include "core/recipe/recipe.h"
#include "core/sweep/sweep.h"

#include <string.h>

static void set_int(json_t *o, const char *key, int64_t x) { json_object_set_new(o, key, json_integer(x)); }
static void set_str(json_t *o, const char *key, const char *s) { json_object_set_new(o, key, json_string(s)); }

static json_t *shape_json(const struct graph *g, const struct shape *s)
{
    json_t *a = json_array();
    for (int i = 0; i < s->rank; i++) {
        int64_t d = s->dim[i];
        json_array_append_new(a, d >= 0 ? json_integer(d) : json_string(-1 - d < g->n_symbols ? g->symbols[-1 - d] : "?"));
    }
    return s->rank < 0 ? (json_decref(a), json_null()) : a;
}

static json_t *values_json(const struct graph *g, const int *values, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) {
        const struct value *v = &g->values[values[i]];
        json_t *o = json_object();
        set_str(o, "name", v->name);
        set_str(o, "dtype", dtype_name(v->dtype));
        json_object_set_new(o, "shape", shape_json(g, &v->shape));
        json_array_append_new(a, o);
    }
    return a;
}

/* How many layers the recipe quantizes; those of one operator, or OPS: of all. */
static int64_t count_quantized(const struct graph *g, const struct roles *r, const struct recipe *recipe, int op)
{
    int64_t n = 0;
    for (int i = 0; i < r->n_layers; i++) {
        struct recipe_choice choice;
        if (op != OPS && (int)g->nodes[r->layers[i].node].op != op)
            continue;
        sweep_choice(recipe, &r->layers[i], &choice);
        n += choice.quantize;
    }
    return n;
}

/* By method, as its plain preset has it: the first that names it. */
static json_t *support_json(const struct graph *g, const struct roles *r, int op)
{
    size_t n;
    json_t *o = json_object();
    const struct recipe_preset *p = recipe_presets(&n);
    for (size_t i = 0; i < n; i++) {
        const char *method = method_find(p[i].recipe.method)->name;
        if (!json_object_get(o, method))
            set_int(o, method, count_quantized(g, r, &p[i].recipe, op));
    }
    return o;
}

static json_t *ops_json(const struct graph *g, const struct roles *r)
{
    int64_t counts[OPS] = { 0 };
    json_t *a = json_array();
    for (int i = 0; i < g->n_nodes; i++)
        counts[g->nodes[i].op]++;
    for (int op = 0; op < OPS; op++) {
        if (!counts[op])
            continue;
        json_t *o = json_object();
        set_str(o, "type", op_info[op].type);
        set_int(o, "count", counts[op]);
        json_object_set_new(o, "support", support_json(g, r, op));
        json_array_append_new(a, o);
    }
    return a;
}

static json_t *layer_json(const struct graph *g, const struct layer *l)
{
    json_t *o = json_object();
    set_str(o, "name", l->name);
    set_str(o, "op", op_info[g->nodes[l->node].op].type);
    set_str(o, "role", layer_role_name[l->kind]);
    json_object_set_new(o, "part", layer_part_name[l->part] ? json_string(layer_part_name[l->part]) : json_null());
    set_str(o, "block", l->block);
    set_str(o, "input", g->values[l->x].name);
    if (l->weight >= 0) {
        json_object_set_new(o, "shape", json_pack("[I,I]", (json_int_t)l->k, (json_int_t)l->n));
        set_int(o, "params", l->k * l->n + (l->bias >= 0 ? l->n : 0));
        json_object_set_new(o, "shared_weight", json_boolean(l->shared_weight));
    }
    return o;
}

static json_t *layers_json(const struct graph *g, const struct roles *r)
{
    json_t *a = json_array();
    for (int i = 0; i < r->n_layers && i < INVENTORY_MAX_LAYERS; i++)
        json_array_append_new(a, layer_json(g, &r->layers[i]));
    return a;
}

static json_t *norms_json(const struct roles *r)
{
    json_t *a = json_array();
    for (int i = 0; i < r->n_norms && i < INVENTORY_MAX_LAYERS; i++) {
        const struct norm *n = &r->norms[i];
        json_t *o = json_object(), *feeds = json_array();
        set_str(o, "name", n->name);
        set_str(o, "kind", n->rms ? "rms_norm" : "layer_norm");
        json_object_set_new(o, "decomposed", json_boolean(n->decomposed));
        for (int l = 0; l < r->n_layers; l++)
            if (r->layers[l].x == n->output)
                json_array_append_new(feeds, json_string(r->layers[l].name));
        json_object_set_new(o, "feeds", feeds);
        json_array_append_new(a, o);
    }
    return a;
}

static json_t *activations_json(const struct roles *r)
{
    int64_t counts[ACT_KINDS] = { 0 };
    json_t *a = json_array();
    for (int i = 0; i < r->n_activations; i++)
        counts[r->activations[i].kind]++;
    for (int k = 0; k < ACT_KINDS; k++)
        if (counts[k])
            json_array_append_new(a, json_pack("{s:s,s:I}", "kind", activation_name[k], "count", (json_int_t)counts[k]));
    return a;
}

static json_t *left_json(const struct graph *g, const struct roles *r)
{
    json_t *a = json_array();
    for (int i = 0; i < r->n_left && i < INVENTORY_MAX_LAYERS; i++) {
        const struct node *n = &g->nodes[r->left[i].node];
        json_array_append_new(a, json_pack("{s:s,s:s,s:s}", "node", n->name, "op", op_info[n->op].type, "reason", r->left[i].reason));
    }
    return a;
}

static json_t *methods_json(const struct graph *g, const struct roles *r)
{
    json_t *a = json_array();
    size_t n;
    const struct recipe_preset *p = recipe_presets(&n);
    for (size_t i = 0; i < n; i++) {
        json_int_t quantized = count_quantized(g, r, &p[i].recipe, OPS), rest = r->n_layers + r->n_left - quantized;
        json_array_append_new(a, json_pack("{s:s,s:I,s:I}", "recipe", p[i].name, "quantizes", quantized, "stays_float", rest));
    }
    return a;
}

static int64_t count_parameters(const struct graph *g)
{
    int64_t n = 0;
    for (int i = 0; i < g->n_values; i++)
        if (g->values[i].is_const && g->values[i].dtype != DT_I64 && g->values[i].n_consumers)
            n += shape_elements(&g->values[i].shape);
    return n;
}

json_t *inventory_json(const struct loaded_model *m, const struct roles *r)
{
    const struct graph *g = m->g;
    char digest[HASH_TEXT_SIZE];
    uint8_t bytes[HASH_SIZE];
    json_t *o = json_object();
    loaded_model_digest(m, bytes);
    hash_text(bytes, digest);
    set_str(o, "format", "onnx");
    set_str(o, "digest", digest);
    set_int(o, "bytes", (int64_t)m->bytes);
    set_int(o, "ir_version", m->onnx.ir_version);
    set_int(o, "opset", g->opset);
    set_str(o, "producer", m->onnx.producer_name ? m->onnx.producer_name : "");
    json_object_set_new(o, "inputs", values_json(g, g->inputs, g->n_inputs));
    json_object_set_new(o, "outputs", values_json(g, g->outputs, g->n_outputs));
    set_int(o, "parameters", count_parameters(g));
    set_int(o, "nodes", g->n_nodes);
    json_object_set_new(o, "ops", ops_json(g, r));
    json_object_set_new(o, "layers", layers_json(g, r));
    json_object_set_new(o, "norms", norms_json(r));
    set_int(o, "softmaxes", r->n_softmaxes);
    json_object_set_new(o, "activations", activations_json(r));
    json_object_set_new(o, "left_float", left_json(g, r));
    json_object_set_new(o, "methods", methods_json(g, r));
    json_object_set_new(o, "truncated", json_boolean(r->n_layers > INVENTORY_MAX_LAYERS));
    return o;
}
