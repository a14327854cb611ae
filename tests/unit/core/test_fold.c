/* Channel factors that norms take up: on float numbers the network stays what it was, and what would change it is noticed. */
#include <math.h>

#include "core/sweep/fold_check.h"
#include "tests/unit/core/sweep_fixture.h"

static struct ground *digits;
static struct outcome *o;              /* digits with repquant-w4a4 */

static bool folded(const struct site *s) { return s->q.mul && s->norm >= 0; }

/* W / mul for the linear's weight where it stands, b - (W / mul) shift for its bias. */
static void edit_linear(struct lowering *how, const struct layer *l, const struct site *s)
{
    struct err e = { 0 };
    const struct graph *g = digits->g;
    size_t k = (size_t)l->k, n = (size_t)l->n;
    const float *w = g->values[l->weight].data, *b = g->values[l->bias].data;
    float *scaled = arena_array(o->mem, k * n, sizeof *scaled, &e), *bias = arena_array(o->mem, n, sizeof *bias, &e);
    for (size_t c = 0; c < n; c++) {
        double sum = 0;
        for (size_t i = 0; i < k; i++) {
            size_t at = l->transposed ? c * k + i : i * n + c;
            scaled[at] = w[at] / s->q.mul[i];
            sum += (double)scaled[at] * (s->q.shift ? (double)s->q.shift[i] : 0);
        }
        bias[c] = (float)((double)b[c] - sum);
    }
    const struct node *add = &g->nodes[l->bias_node];
    int at = l->bias_node == l->node ? 2 : add->in[0] == l->bias ? 0 : 1;
    need(lowering_edit(how, g, l->node, 1, scaled, o->mem, &e) && lowering_edit(how, g, l->bias_node, at, bias, o->mem, &e), &e);
}

static int edit_all(struct lowering *how)
{
    int folds = 0;
    for (int i = 0; i < o->sweep.n_sites; i++) {
        const struct site *s = &o->sweep.sites[i];
        if (!folded(s))
            continue;
        const struct norm *n = &digits->roles.norms[s->norm];
        how->edit[n->scale_node] = o->sweep.quantized.edit[n->scale_node];
        how->edit[n->shift_node] = o->sweep.quantized.edit[n->shift_node];
        for (int k = 0; k < o->sweep.n_layers; k++)
            if (o->sweep.layers[k].x == i)
                edit_linear(how, o->sweep.layers[k].l, s);
        folds++;
    }
    return folds;
}

static void folding_all_norms_leaves_the_float_network_as_it_was(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct lowering plain, edited;
    struct frame f[2] = { { 0 }, { 0 } };
    need(lowering_new(&plain, digits->g, o->mem, &e) && lowering_new(&edited, digits->g, o->mem, &e), &e);
    assert_int_equal(edit_all(&edited), 9);        /* two in each of 4 blocks, and the last one */
    double off = 0, largest = 0;
    for (int c = 0; c < o->sweep.chunks.n; c++) {
        const struct lowering *how[2] = { &plain, &edited };
        for (int i = 0; i < 2; i++)
            need(chunk_bind(&o->sweep.chunks, c, how[i], &f[i], &e) && frame_run(&f[i], 0, digits->g->n_nodes, &e), &e);
        const struct tensor *a = &f[0].t[digits->g->outputs[0]], *b = &f[1].t[digits->g->outputs[0]];
        for (int64_t i = 0; i < shape_elements(&a->shape); i++) {
            off = fmax(off, fabs((double)((float *)a->data)[i] - (double)((float *)b->data)[i]));
            largest = fmax(largest, fabs((double)((float *)a->data)[i]));
        }
    }
    if (!(off < 1e-4 * largest))
        fail_msg("logits are off by %g of %g", off, largest);
    frame_release(&f[0]);
    frame_release(&f[1]);
}

/* Rows and their scaled form for the first folded site. */
static int first_fold(float x[FOLD_ROWS * 64], float scaled[FOLD_ROWS * 64], size_t *ret_k)
{
    int i = 0;
    while (!folded(&o->sweep.sites[i]))
        i++;
    const struct site *s = &o->sweep.sites[i];
    *ret_k = (size_t)shape_elements(&digits->g->values[digits->roles.norms[s->norm].gamma].shape);
    assert_true(*ret_k <= 64 && s->q.shift);
    for (size_t at = 0; at < FOLD_ROWS * *ret_k; at++) {
        x[at] = uniform_at(5, at, -2, 2);
        scaled[at] = x[at] * s->q.mul[at % *ret_k] + s->q.shift[at % *ret_k];
    }
    return i;
}

static void a_fold_that_changes_the_output_is_noticed(void **state)
{
    (void)state;
    struct err e = { 0 };
    float x[FOLD_ROWS * 64], scaled[FOLD_ROWS * 64];
    size_t k;
    int site = first_fold(x, scaled, &k);
    need(fold_check(&o->task, &o->sweep, site, x, scaled, FOLD_ROWS, &e), &e);
    assert_true(o->sweep.sites[site].checked);     /* and so it was during the sweep */
    scaled[3 * k + 5] *= 1.01f;
    assert_false(fold_check(&o->task, &o->sweep, site, x, scaled, FOLD_ROWS, &e));
    assert_int_equal(e.code, ERR_BUG);
    assert_string_equal(e.where, o->sweep.sites[site].layer);
}

/* Where a channel's own zero point is an integer, its codes and those of the scaled channel are the same. */
static void a_fold_that_changes_codes_is_noticed(void **state)
{
    (void)state;
    struct err e = { 0 };
    float x[FOLD_ROWS * 64], scaled[FOLD_ROWS * 64];
    size_t k;
    int site = first_fold(x, scaled, &k);
    struct site_choice *q = &o->sweep.sites[site].q;
    float step = q->a.scale, was = q->shift[5], *at = &scaled[3 * k + 5];
    q->shift[5] = step * rintf(was / step);
    for (size_t r = 0; r < FOLD_ROWS; r++)
        scaled[r * k + 5] = x[r * k + 5] * q->mul[5] + q->shift[5];
    need(fold_check(&o->task, &o->sweep, site, x, scaled, FOLD_ROWS, &e), &e);
    *at = 0;                                       /* the middle of the range: whatever x is, some code away from both ends */
    x[3 * k + 5] = (2 * step - q->shift[5]) / q->mul[5];
    assert_false(fold_check(&o->task, &o->sweep, site, x, scaled, FOLD_ROWS, &e));
    assert_int_equal(e.code, ERR_BUG);
    assert_non_null(strstr(e.text, "codes"));
    q->shift[5] = was;
}

/* RepQ-ViT's steps are smaller there than what float32 tells apart: which code a value has says nothing about the fold. */
static void a_norm_that_gives_the_same_for_all_samples_has_the_tensors_range_or_factors(void **state)
{
    (void)state;
    static const struct { const char *name; bool folds; } presets[] = { { "repquant-w8a8", false }, { "repquant-w4a4", false }, { "repq-vit-w4a4", true } };
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[batch,2,40] none:f32(0)");
    for (int i = 0; i < 4; i++) {
        static const char *const vectors[] = { "g1", "b1", "g2", "b2" };
        MB_RANDOM(b, vectors[i], (uint64_t)i + 7, 1.5f, 40);
    }
    MB_RANDOM(b, "a.weight", 3, 1, 40, 4);
    mb_nodes(b, "zeros = Mul(x none); l = LayerNormalization(zeros g1 b1); n = LayerNormalization(l g2 b2); y = MatMul(n a.weight)");
    mb_output(b, "y");
    struct ground *gr = ground_of(b, 16);
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        struct recipe r = *recipe_preset(presets[i].name);
        struct outcome *once = sweep_well(gr, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX });
        const struct site *s = &once->sweep.sites[0];
        assert_true(folded(s) == presets[i].folds && s->checked == presets[i].folds);
        outcome_free(once);
    }
    ground_free(gr);
    mb_free(b);
}

static void factors_stay_within_a_thousand(void **state)
{
    (void)state;
    for (int i = 0; i < o->sweep.n_sites; i++) {
        const struct site *s = &o->sweep.sites[i];
        if (!s->q.mul)
            continue;
        size_t n = s->norm >= 0 ? (size_t)shape_elements(&digits->g->values[digits->roles.norms[s->norm].gamma].shape) : 1;
        for (size_t c = 0; c < n; c++)
            assert_true(s->q.mul[c] >= 0.999e-3f && s->q.mul[c] <= 1.001e3f);
    }
}

static int set_up(void **state)
{
    (void)state;
    struct recipe r = *recipe_preset("repquant-w4a4");
    digits = ground_digits(24);
    o = sweep_well(digits, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX });
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    outcome_free(o);
    ground_free(digits);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folding_all_norms_leaves_the_float_network_as_it_was),
        cmocka_unit_test(a_fold_that_changes_the_output_is_noticed),
        cmocka_unit_test(a_fold_that_changes_codes_is_noticed),
        cmocka_unit_test(a_norm_that_gives_the_same_for_all_samples_has_the_tensors_range_or_factors),
        cmocka_unit_test(factors_stay_within_a_thousand),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
