/*
 * Random nodes over random values, most of them nonsense: nothing crashes, every refusal has a
 * code and a place, and what loads with symbols agrees with what loads with numbers.
 */
#include "core/base/hash.h"
#include "core/exec/op.h"
#include "model_builder.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { GRAPHS = 6000, NODES = 3, TEXT = 400 };

struct dice { uint64_t seed, n; };

static unsigned roll(struct dice *d, unsigned sides) { return (unsigned)(hash_mix(d->seed, d->n++) % sides); }
#define PICK(d, list) (list)[roll(d, sizeof(list) / sizeof((list)[0]))]

static void add(char *text, const char *what)
{
    size_t n = strlen(text);
    snprintf(text + n, TEXT - n, "%s", what);
}

static void random_values(struct dice *d, char *text)
{
    static const char *const types[] = { "f32", "f32", "f32", "f32", "i64", "i64", "i32", "bool", "u8", "i8" };
    static const char *const dims[] = { "1", "2", "3", "4", "6", "b", "s", "0" };
    static const char *const numbers[] = { "0", "1", "2", "3", "-1", "-2", "4", "6", "0", "1", "9223372036854775807",
                                           "-9223372036854775808", "1099511627776", "2147483648", "-3" };
    char part[64];
    for (int v = 0; v < 6; v++) {
        bool constant = v > 2;
        const char *type = constant ? (roll(d, 5) ? "i64" : "f32") : PICK(d, types);
        unsigned n = roll(d, 5);
        snprintf(part, sizeof part, "%sv%d:%s%s", v ? " " : "", v, type, constant ? "{" : "[");
        add(text, part);
        for (unsigned i = 0; i < n; i++) {
            add(text, i ? "," : "");
            add(text, constant ? PICK(d, numbers) : roll(d, 9) ? dims[roll(d, 6)] : PICK(d, dims));
        }
        add(text, constant ? "}" : "]");
    }
}

static void random_attrs(struct dice *d, enum op op, char *text)
{
    static const char *const common[] = {
        "axis=0", "axis=1", "axis=-1", "axis=7", "axis=-9223372036854775808", "keepdims=0", "axes=0,", "axes=-1,1", "to=1",
        "to=7", "to=9", "perm=1,0", "perm=0,2,1", "perm=2,0,1", "allowzero=1", "start=-1", "end=1", "num_outputs=2", "mode=edge",
        "mode=reflect", "strides=2,2", "strides=2,", "pads=1,1,1,1", "pads=1,1", "dilations=2,", "group=2", "transA=1", "transB=1",
        "auto_pad=SAME_UPPER", "block_size=2", "output_dtype=3", "noop_with_empty_axes=1", "kernel_shape=2,2", "upper=0",
    };
    if (op == OP_CONCAT || roll(d, 3) == 0)
        add(text, op == OP_CONCAT ? common[roll(d, 3)] : "");
    if (op == OP_CAST)
        add(text, common[8 + roll(d, 3)]);
    /* An attribute the op does not have is refused at once, so only now and then. */
    static const struct { enum op op; unsigned from, to; } fitting[] = {
        { OP_SOFTMAX, 0, 5 }, { OP_FLATTEN, 0, 5 }, { OP_GATHER, 0, 5 }, { OP_SPLIT, 0, 5 }, { OP_TRANSPOSE, 11, 14 },
        { OP_REDUCEMEAN, 5, 8 }, { OP_REDUCESUM, 5, 6 }, { OP_RESHAPE, 14, 15 }, { OP_SHAPE, 15, 17 }, { OP_PAD, 18, 20 },
        { OP_CONV, 20, 26 }, { OP_GEMM, 26, 28 }, { OP_LAYERNORM, 0, 4 }, { OP_ARGMAX, 0, 4 }, { OP_DEQUANTIZELINEAR, 0, 4 },
        { OP_GATHERELEMENTS, 0, 4 }, { OP_TRILU, 33, 34 },
    };
    for (size_t i = 0; i < sizeof fitting / sizeof fitting[0]; i++)
        if (fitting[i].op == op && roll(d, 2))
            add(text, common[fitting[i].from + roll(d, fitting[i].to - fitting[i].from)]);
    if (roll(d, 40) == 0) {
        add(text, " ");
        add(text, PICK(d, common));
    }
}

/* Node i may read the values and what nodes before it made. */
static void random_node(struct dice *d, struct builder *b, int i)
{
    char in[TEXT] = "", out[TEXT] = "", attrs[TEXT] = "", part[16];
    enum op op = (enum op)roll(d, OPS);
    const struct op_info *o = &op_info[op];
    unsigned most = o->min_in > 4 ? o->min_in : o->max_in > 4 ? 4 : o->max_in, n = o->min_in + roll(d, most - o->min_in + 1);
    for (unsigned k = 0; k < n; k++) {
        bool made = i && roll(d, 3) == 0;
        snprintf(part, sizeof part, "%s%u ", made ? "y" : "v", made ? roll(d, (unsigned)i) : k == 0 ? roll(d, 3) : roll(d, 6));
        add(in, k >= o->min_in && roll(d, 8) == 0 ? "- " : part);
    }
    snprintf(out, sizeof out, "y%d", i);
    if (o->max_out > 1 && roll(d, 2)) {
        snprintf(part, sizeof part, " z%d", i);
        add(out, part);
    }
    random_attrs(d, op, attrs);
    mb_node(b, o->type, in, out, attrs);
}

static struct builder *random_model(uint64_t seed, int64_t fixed)
{
    static const char *const outputs[] = { "y0", "y0 y1", "y0 y1 y2" };
    struct dice d = { .seed = seed };
    char values[TEXT] = "";
    int nodes = 1 + (int)roll(&d, NODES);
    struct builder *b = mb_new(roll(&d, 2) ? 13 : 18);
    b->fixed = fixed;
    random_values(&d, values);
    mb_values(b, values);
    for (int i = 0; i < nodes; i++)
        random_node(&d, b, i);
    mb_output(b, outputs[nodes - 1]);
    return b;
}

static bool bind_at(const struct graph *g, struct arena *mem, int64_t length, struct facts *f, struct err *e)
{
    struct shape shapes[8];
    for (int i = 0; i < g->n_inputs; i++) {
        shapes[i] = g->values[g->inputs[i]].shape;
        for (int k = 0; k < shapes[i].rank; k++)
            if (shapes[i].dim[k] < 0)
                shapes[i].dim[k] = length;
    }
    return graph_bind(g, mem, shapes, op_eval, f, e);
}

static void check_outputs(uint64_t seed, const struct graph *g, const struct graph *fixed, const struct facts *f)
{
    for (int i = 0; i < g->n_outputs; i++) {
        const struct value *v = &fixed->values[fixed->outputs[i]], *w = &g->values[g->outputs[i]];
        const struct shape *bound = &f->shape[g->outputs[i]];
        if (v->dtype != w->dtype)
            fail_msg("seed %d: output %d has two types", (int)seed, i);
        for (int k = 0; k < bound->rank; k++)
            if (bound->dim[k] < 0 || (v->shape.rank >= 0 && v->shape.dim[k] >= 0 && v->shape.dim[k] != bound->dim[k]) ||
                (w->shape.rank >= 0 && w->shape.dim[k] >= 0 && w->shape.dim[k] != bound->dim[k]))
                fail_msg("seed %d: output %d axis %d is %lld", (int)seed, i, k, (long long)bound->dim[k]);
    }
}

static void check_refusal(uint64_t seed, const struct err *e)
{
    if (e->code == ERR_NONE || !e->text[0] || e->code == ERR_BUG || err_http_status(e->code) != 422)
        fail_msg("seed %d: %s: %s: %s", (int)seed, err_slug(e->code), e->where, e->text);
}

static void random_graphs_are_refused_cleanly_or_agree_with_numbers(void **state)
{
    (void)state;
    int loaded = 0, bound = 0;
    for (uint64_t seed = 0; seed < GRAPHS; seed++) {
        int64_t length = 1 + (int64_t)(seed % 4);
        struct err e = { 0 }, e_fixed = { 0 };
        struct facts f;
        struct builder *b = random_model(seed, 0), *b_fixed = random_model(seed, length);
        struct graph *g = graph_load(b->mem, mb_model(b), op_eval, &e);
        struct graph *fixed = graph_load(b_fixed->mem, mb_model(b_fixed), op_eval, &e_fixed);
        bool ok = g && bind_at(g, b->mem, length, &f, &e);
        loaded += g != NULL;
        bound += ok;
        if (!ok)
            check_refusal(seed, &e);
        if (!fixed)
            check_refusal(seed, &e_fixed);
        if (ok != (fixed != NULL) && e.code != ERR_MODEL_UNBOUND)
            fail_msg("seed %d: late: %s: %s: %s; early: %s: %s: %s", (int)seed, err_slug(e.code), e.where, e.text,
                     err_slug(e_fixed.code), e_fixed.where, e_fixed.text);
        if (ok)
            check_outputs(seed, g, fixed, &f);
        mb_free(b);
        mb_free(b_fixed);
    }
    assert_true(loaded > GRAPHS / 20 && bound > GRAPHS / 20);    /* the dice are not so wild that nothing is tested */
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(random_graphs_are_refused_cleanly_or_agree_with_numbers) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
