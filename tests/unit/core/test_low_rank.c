/* Thin matrices for a rounding error: the specification's example E6, and laws. */
#include "core/quant/low_rank.h"
#include "tests/unit/core/reconstruct_fixture.h"

static double left_over(const float *e, size_t k, size_t n, const double *loud, size_t rank, const float *u, const float *v)
{
    double sum = 0;
    for (size_t i = 0; i < k; i++)
        for (size_t c = 0; c < n; c++) {
            double off = (double)e[i * n + c];
            for (size_t r = 0; r < rank; r++)
                off -= (double)u[i * rank + r] * (double)v[r * n + c];
            sum += off * off * (loud ? loud[i] * loud[i] : 1);
        }
    return sum;
}

static void the_specifications_example_is_met(void **state)
{
    (void)state;
    static const float e[] = { 0, 0, -.028571429f, .028571429f, -.028571429f, .014285714f };       /* [k, n] */
    static const double left[] = { 0, -.177791134, -.138815123 }, right[] = { .177791134, -.138815123 };
    float u[3], v[2];
    struct err err = { 0 };
    assert_true(low_rank(e, 3, 2, NULL, 1, mem, u, v, &err));
    near(left_over(e, 3, 2, NULL, 1, u, v), 6.43554e-5, 1e-9, "left over");
    double sign = v[0] > 0 ? 1 : -1;
    for (int i = 0; i < 3; i++)
        near(sign * (double)u[i], left[i], 1e-6, "u");
    for (int i = 0; i < 2; i++)
        near(sign * (double)v[i], right[i], 1e-6, "v");
}

static void what_has_a_low_rank_is_given_back_whole(void **state)
{
    (void)state;
    enum { K = 50, N = 33, RANK = 4 };
    float a[K * RANK], b[RANK * N], e[K * N], u[K * RANK], v[RANK * N];
    struct err err = { 0 };
    double all = 0;
    for (size_t i = 0; i < COUNT(a); i++)
        a[i] = (float)uniform(-1, 1);
    for (size_t i = 0; i < COUNT(b); i++)
        b[i] = (float)uniform(-1, 1);
    gemm(false, false, K, N, RANK, a, RANK, b, N, false, e, N);
    for (size_t i = 0; i < COUNT(e); i++)
        all += (double)e[i] * (double)e[i];
    assert_true(low_rank(e, K, N, NULL, RANK, mem, u, v, &err));
    assert_true(left_over(e, K, N, NULL, RANK, u, v) < 1e-9 * all);
}

/* The rank goes where inputs are loud; each more of it leaves less, and nothing is left at full rank.  An error of zeros needs nothing. */
static void the_rank_is_spent_on_loud_inputs(void **state)
{
    (void)state;
    enum { K = 40, N = 24 };
    float e[K * N], u[K * N], v[N * N], plain_u[K * N], plain_v[N * N];
    double loud[K], last = INFINITY;
    struct err err = { 0 };
    for (size_t i = 0; i < COUNT(e); i++)
        e[i] = (float)uniform(-1, 1);
    for (size_t i = 0; i < K; i++)
        loud[i] = i % 9 ? 1 : 50;
    assert_true(low_rank(e, K, N, loud, 5, mem, u, v, &err) && low_rank(e, K, N, NULL, 5, mem, plain_u, plain_v, &err));
    assert_true(left_over(e, K, N, loud, 5, u, v) < 0.05 * left_over(e, K, N, loud, 5, plain_u, plain_v));
    for (size_t rank = 1; rank <= N; rank += rank < 4 ? 1 : 5) {
        assert_true(low_rank(e, K, N, loud, rank, mem, u, v, &err));
        double left = left_over(e, K, N, loud, rank, u, v);
        assert_true(left < last);
        last = left;
    }
    assert_true(low_rank(e, K, N, loud, N, mem, u, v, &err));
    assert_true(left_over(e, K, N, loud, N, u, v) < 1e-6 * left_over(e, K, N, loud, 0, u, v));
    memset(e, 0, sizeof e);
    assert_true(low_rank(e, K, N, loud, 3, mem, u, v, &err));
    for (size_t i = 0; i < (size_t)K * 3; i++)
        assert_true(u[i] == 0);
    for (size_t i = 0; i < (size_t)N * 3; i++)
        assert_true(v[i] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_specifications_example_is_met),
        cmocka_unit_test(what_has_a_low_rank_is_given_back_whole),
        cmocka_unit_test(the_rank_is_spent_on_loud_inputs),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
