/* Worked examples of the specification that run through several files, or through none: what is left of E1, E2, E3 and E7; E8 and E9. */
#include "core/kernel/kernel.h"
#include "core/quant/channels.h"
#include "core/quant/quantizer.h"
#include "core/quant/smooth.h"
#include "core/report/evaluate.h"
#include "model_builder.h"
#include "reconstruct_fixture.h"

/* ---- E1: two tokens of three channels, two outputs [outputs, channels] ---- */

static const float x[] = { .6f, -9, 1, -1, 16, .3f }, w[] = { .5f, .25f, -.9f, -.2f, .11f, .4f };
static float lo[] = { -1, -9, .3f }, hi[] = { .6f, 16, 1 };
static const struct rows two = { .x = x, .n = 2, .channels = 3 };
static const struct ranges full = { lo, hi };

static void factors_of(const struct smooth_task *t, double alpha, float *ret)
{
    struct err e = { 0 };
    if (!smooth_factors(t, alpha, mem, ret, &e))
        fail_msg("%s", e.text);
}

/* A range for each token and each output: rows of W s and of x / s have codes of their own. */
static void e1_codes_sums_and_outputs(void **state)
{
    (void)state;
    static const int x_codes[] = { 48, -127, 107, -45, 127, 18 }, w_codes[] = { 45, 127, -60, -41, 127, 61 };
    static const int32_t sums[] = { -20389, -11570, 13024, 19072 };
    static const double outputs[] = { -2.8442714, -.7101681, 3.2299583, 2.081141 }, x_scale[] = { .008858268, .015748031 };
    const struct smooth_reader reader = { 2, 8, { .rows = 1 } };
    struct smooth_task t = { .rows = &two, .full = &full, .w = w, .readers = &reader, .n_readers = 1, .bits = 8, .symmetric = true };
    float s[3], codes[2][6], scale[2][2], scratch[4096];
    int32_t acc[4];
    factors_of(&t, .5, s);
    for (int side = 0; side < 2; side++)
        for (int r = 0; r < 2; r++) {
            float row[3], reach = 0;
            for (int c = 0; c < 3; c++)
                reach = fmaxf(reach, fabsf(row[c] = side ? w[r * 3 + c] * s[c] : x[r * 3 + c] / s[c]));
            struct affine a = quantizer_from_range(-reach, reach, 8, true);
            scale[side][r] = a.scale;
            quantize_to_float(3, row, a.scale, 0, a.qmin, a.qmax, codes[side] + r * 3);
        }
    for (int i = 0; i < 6; i++)
        assert_true((int)codes[0][i] == x_codes[i] && (int)codes[1][i] == w_codes[i]);
    gemm_exact(true, 2, 2, 3, codes[0], 3, 128, codes[1], 3, 128, acc, 2, scratch);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(acc[i], sums[i]);
        near((double)acc[i] * (double)scale[0][i / 2] * (double)scale[1][i % 2], outputs[i], 1e-6, "y");
    }
    for (int r = 0; r < 2; r++)
        near((double)scale[0][r], x_scale[r], 1e-8, "scale of a token");
}

static void e1_mean_squared_errors(void **state)
{
    (void)state;
    static const struct { int bits; double raw, smooth; } want[] = { { 8, 6.830e-5, 8.537e-6 }, { 4, .3174, .01199 } };
    for (size_t i = 0; i < COUNT(want); i++) {
        const struct smooth_reader reader = { 2, want[i].bits, { .rows = 1 } };
        struct smooth_task t = { .rows = &two, .full = &full, .w = w, .readers = &reader, .n_readers = 1, .bits = want[i].bits,
                                 .symmetric = true, .per_row = true };
        float s[3], one[3] = { 1, 1, 1 };
        double raw, smooth;
        struct err e = { 0 };
        factors_of(&t, .5, s);
        assert_true(smooth_error(&t, one, mem, &raw, &e) && smooth_error(&t, s, mem, &smooth, &e));
        if (!(fabs(raw / 4 / want[i].raw - 1) < 1e-3 && fabs(smooth / 4 / want[i].smooth - 1) < 1e-3))
            fail_msg("%d bits: %g raw, %g smoothed", want[i].bits, raw / 4, smooth / 4);
    }
}

/* ---- E2 and E3: what no recipe asks for, in the kernels that recipes use ---- */

/* DeepSpeed's step is 2 max|w| / 16, so that the largest weight is clipped. */
static void e2_as_deepspeed_rounds(void **state)
{
    (void)state;
    static const float eight[] = { .70f, -.38f, .11f, .22f, -.05f, .021f, .033f, -.012f }, scale[] = { .0875f, .00625f };
    static const int want[] = { 7, -4, 1, 3, -8, 3, 5, -2 };
    float codes[8];
    double squares = 0;
    for (int i = 0; i < 8; i++) {
        quantize_to_float(1, &eight[i], scale[i / 4], 0, -8, 7, &codes[i]);
        assert_int_equal((int)codes[i], want[i]);
        squares += pow((double)eight[i] - (double)codes[i] * (double)scale[i / 4], 2);
    }
    near(squares / 8, 1.35964e-3, 1e-8, "mean squared error");
}

static void e3_ranges_of_the_tensor_and_with_zero_points(void **state)
{
    (void)state;
    static const float tokens[2][4] = { { .1f, -.21f, .3f, -.4f }, { 10, -2.6f, 5.1f, 7.4f } };
    static const float low[] = { -.4f, -2.6f }, high[] = { .3f, 10 };
    static const double scale[] = { .002745098, .049411766 };
    static const int zero[] = { 146, 53 }, of_tensor[] = { 1, -3, 4, -5 }, want[2][4] = { { 182, 70, 255, 0 }, { 255, 0, 156, 203 } };
    float codes[4];
    uint8_t unsigned_codes[4];
    struct affine all = quantizer_from_range(-10, 10, 8, true);
    quantize_to_float(4, tokens[0], all.scale, 0, all.qmin, all.qmax, codes);
    for (int i = 0; i < 4; i++)
        assert_int_equal((int)codes[i], of_tensor[i]);
    for (int t = 0; t < 2; t++) {
        struct affine a = quantizer_from_range(low[t], high[t], 8, false);
        near((double)a.scale, scale[t], 1e-8, "scale");
        assert_int_equal(a.zero, zero[t]);
        quantize_u8(4, tokens[t], a.scale, a.zero, a.qmin, a.qmax, unsigned_codes);
        for (int i = 0; i < 4; i++)
            assert_int_equal(unsigned_codes[i], want[t][i]);
    }
}

/* ---- E7: errors and norms are in test_sweep.c and test_smooth.c ---- */

static struct graph *graph_of(struct builder *b, const char *values, const char *nodes, struct lowering *how)
{
    struct err e = { 0 };
    mb_values(b, values);
    mb_nodes(b, nodes);
    mb_output(b, "y");
    struct graph *g = graph_load(b->mem, mb_model(b), NULL, &e);
    if (!g || !lowering_new(how, g, b->mem, &e))
        fail_msg("%s", e.text);
    return g;
}

static void e7_divergence_of_two_models(void **state)
{
    (void)state;
    static float logits[] = { 2, 1, .1f };
    struct lowering how[2];
    struct evaluation v;
    struct err e = { 0 };
    struct builder *b[] = { mb_new(17), mb_new(17) };
    struct graph *reference = graph_of(b[0], "x:f32[batch,3]", "y = Identity(x)", &how[0]);
    struct graph *other = graph_of(b[1], "x:f32[batch,3] c:f32{-0.2,0.2,-0.1}", "y = Add(x c)", &how[1]);      /* (1.8, 1.2, 0) */
    struct array in = { .name = "x", .t = { DT_F32, { 2, { 1, 3 } }, logits } };
    const struct array *list[] = { &in };
    struct samples one = { .n_inputs = 1, .inputs = list, .count = 1 };
    struct pool *pool = pool_new(1, &e);
    assert_true(evaluate(&(struct runnable){ other, &how[1] }, &(struct runnable){ reference, &how[0] }, &one, pool, &v, &e));
    near(v.kl, .01503451, 1e-7, "nats");
    pool_free(pool);
    mb_free(b[0]);
    mb_free(b[1]);
}

/* Nothing here turns activations; in ONNX a Hadamard transform would be this product with a constant. */
static void e7_hadamard_transform_as_a_product(void **state)
{
    (void)state;
    static const float half[] = { .5f, .5f, .5f, .5f, .5f, -.5f, .5f, -.5f, .5f, .5f, -.5f, -.5f, .5f, -.5f, -.5f, .5f };
    static const float in[] = { 1, 2, 3, -4 }, want[] = { 1, 3, 2, -4 };
    float y[4], back[4];
    gemm(false, false, 1, 4, 4, in, 4, half, 4, false, y, 4);
    assert_memory_equal(y, want, sizeof want);
    gemm(false, false, 1, 4, 4, y, 4, half, 4, false, back, 4);
    assert_memory_equal(back, in, sizeof in);
}

static void e7_a_layers_hessian(void **state)
{
    (void)state;
    static const float rows[] = { 1, 2, 3, -1, 0, 1 };
    double h[4] = { 0 }, squares = 0;
    float scratch[4];
    gram_exact(3, 2, rows, 2, 3, h, scratch);
    for (int i = 0; i < 6; i++)
        squares += (double)rows[i] * (double)rows[i];
    near(2 * h[0] / 3, 6.667, 1e-3, "first");
    near(2 * h[1] / 3, -.667, 1e-3, "across");
    near(2 * h[3] / 3, 4, 1e-9, "second");
    near((h[0] + h[3]) / 3, 5.3333, 1e-4, "mean of the trace");
    near((h[0] + h[3]) / 3, 2 * squares / 6, 1e-12, "twice the mean square");
}

/* ---- E8 ---- */

/* AWQ's factors are mean|x|^r: those of SmoothQuant where all weights are equally wide and what was seen is one row, its own mean. */
static void e8_factors_of_activations_alone(void **state)
{
    (void)state;
    static const float row[] = { .5f, -4, .25f }, weights[] = { 1, -1, 1 };
    static const double want[] = { .70710678, 2, .5 };
    static float low[] = { .5f, -4, .25f }, high[] = { .5f, -4, .25f };
    struct rows r = { .x = row, .n = 1, .channels = 3 };
    struct ranges range = { low, high };
    const struct smooth_reader reader = { 1, 8, { .rows = 1 } };
    struct smooth_task t = { .rows = &r, .full = &range, .w = weights, .readers = &reader, .n_readers = 1, .bits = 8, .symmetric = true };
    float s[3];
    factors_of(&t, .5, s);
    for (int c = 0; c < 3; c++)
        near((double)s[c], want[c], 1e-7, "s");
}

/* Outlier Suppression+ moves channels to their middles, as a fold with a free offset does: half a step off, as codes are even in number. */
static void e8_middles_and_half_ranges_of_channels(void **state)
{
    (void)state;
    static float low[] = { -1, 2, 10 }, high[] = { 3, 6, 12 };
    static const double middle[] = { 1, 4, 11 }, reach[] = { 2, 2, 1 };
    const struct ranges range = { low, high };
    struct channel_fold f;
    struct err e = { 0 };
    assert_true(channel_fold(&range, 3, 8, OFFSET_FREE, mem, &f, &e));
    for (int c = 0; c < 3; c++) {
        double step = (double)f.scale / (double)f.mul[c];
        near(-(double)f.add[c] / (double)f.mul[c] - step / 2, middle[c], 1e-5, "middle");
        near(step * 255 / 2, reach[c], 1e-6, "half the range");
    }
}

/* ---- E9 ---- */

enum { LAYERS = 4 };
static const int weights_of[LAYERS] = { 100, 400, 400, 100 };
static const double cost_of[LAYERS] = { 5, 2, 9, 1 };      /* with 4 bits; a 256th of it with 8 */

/* Bit i of `four`: layer i has 4 bits. */
static void price(unsigned four, double *ret_cost, int *ret_bits)
{
    *ret_cost = *ret_bits = 0;
    for (int i = 0; i < LAYERS; i++) {
        bool narrow = four >> i & 1;
        *ret_cost += cost_of[i] / (narrow ? 1 : 256);
        *ret_bits += weights_of[i] * (narrow ? 4 : 8);
    }
}

/* Arithmetic alone: widths are the recipe's, and nothing here allocates them.  What would must look further than the next layer. */
static void e9_the_cheapest_step_each_time_is_not_the_cheapest_end(void **state)
{
    (void)state;
    enum { BUDGET = 5600 };
    unsigned best = 0, greedy = 0;
    double least = INFINITY, cost;
    int bits;
    for (unsigned four = 0; four < 1u << LAYERS; four++) {
        price(four, &cost, &bits);
        if (bits <= BUDGET && cost < least) {
            least = cost;
            best = four;
        }
    }
    price(best, &cost, &bits);
    assert_true(best == 0xb && bits == 5600);              /* 4, 4, 8, 4 */
    near(cost, 8.035, 1e-3, "least cost");
    for (price(0, &cost, &bits); bits > BUDGET; price(greedy, &cost, &bits)) {
        int next = -1;
        for (int i = 0; i < LAYERS; i++)
            if (!(greedy >> i & 1) && (next < 0 || cost_of[i] / weights_of[i] < cost_of[next] / weights_of[next]))
                next = i;
        greedy |= 1u << next;
    }
    assert_true(greedy == 0xe && bits == 4400);            /* 8, 4, 4, 4 */
    near(cost, 12.02, 1e-3, "cost of the greedy choice");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(e1_codes_sums_and_outputs),
        cmocka_unit_test(e1_mean_squared_errors),
        cmocka_unit_test(e2_as_deepspeed_rounds),
        cmocka_unit_test(e3_ranges_of_the_tensor_and_with_zero_points),
        cmocka_unit_test(e7_divergence_of_two_models),
        cmocka_unit_test(e7_hadamard_transform_as_a_product),
        cmocka_unit_test(e7_a_layers_hessian),
        cmocka_unit_test(e8_factors_of_activations_alone),
        cmocka_unit_test(e8_middles_and_half_ranges_of_channels),
        cmocka_unit_test(e9_the_cheapest_step_each_time_is_not_the_cheapest_end),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
