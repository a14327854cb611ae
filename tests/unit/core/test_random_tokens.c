/* Which inputs are numbers of a table's rows. */
#include "core/cli/random_tokens.h"

#include "tests/unit/core/sweep_fixture.h"

/* The rows found for ids that pass `casts` Casts before they are looked up. */
static int64_t rows_behind(int casts)
{
    struct err e = { 0 };
    struct builder *b = mb_new(17);
    char from[20] = "ids", to[20], in[40];
    mb_values(b, "ids:i64[b,8] table:f32{1,2,3}@50,4");
    for (int i = 0; i < casts; i++) {
        snprintf(to, sizeof to, "c%d", i);
        mb_node(b, "Cast", from, to, i % 2 ? "to=7" : "to=6");
        memcpy(from, to, sizeof from);
    }
    snprintf(in, sizeof in, "table %s", from);
    mb_node(b, "Gather", in, "y", "");
    mb_output(b, "y");
    const struct graph *g = graph_load(b->mem, mb_model(b), op_eval, &e);
    need(g != NULL, &e);
    int64_t rows = table_rows(g, g->inputs[0]);
    mb_free(b);
    return rows;
}

static void ids_are_followed_through_a_few_casts(void **state)
{
    (void)state;
    for (int casts = 0; casts < 10; casts++)
        assert_int_equal(rows_behind(casts), 50);
    assert_int_equal(rows_behind(1000), 0);    /* no exporter's work, and no reason to go deep */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_followed_through_a_few_casts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
