/*
 * Plans: who lives when and where.  On random graphs, quantized and not: no two living values share bytes, and a
 * run that is cut anywhere and carried over by hand ends with the same bytes.
 */
#include <math.h>

#include "core/exec/run.h"
#include "tests/unit/core/sweep_fixture.h"

enum { GRAPHS = 150, STEPS = 14, ROWS = 3 };

struct dice { uint64_t seed, n; };

static unsigned roll(struct dice *d, unsigned sides) { return (unsigned)(hash_mix(d->seed, d->n++) % sides); }

/* ---- random graphs: every value v<i> is [b,4,6] ---- */

/* '$' and '%' are the operands' numbers, '@' is the result's. */
static void fill_in(char *to, size_t room, const char *step, int first, int second, int result)
{
    size_t n = 0;
    for (; *step && n + 12 < room; step++)
        if (strchr("$%@", *step))
            n += (size_t)snprintf(to + n, room - n, "%d", *step == '$' ? first : *step == '%' ? second : result);
        else
            to[n++] = *step;
    to[n] = '\0';
}

static void random_step(struct dice *d, struct builder *b, int i)
{
    static const char *const steps[] = {
        "v@ = Tanh(v$)",
        "v@ = Add(v$ v%)",
        "v@ = Mul(v$ v%)",
        "v@ = Sub(v$ half)",
        "f@ = Flatten(v$); v@ = Reshape(f@ to)",
        "u@ = Unsqueeze(v$ one); s@ = Squeeze(u@ one); v@ = Relu(s@)",
        "p@ q@ r@ = Split(v$) axis=2; v@ = Concat(r@ q@ r@) axis=2",
        "t@ = Transpose(v$) perm=0,2,1; v@ = Transpose(t@) perm=0,2,1",
        "q@ = QuantizeLinear(v$ xs xz); d@ = DequantizeLinear(q@ xs xz); w@ = DequantizeLinear(w ws wz); v@ = MatMul(d@ w@)",
        "q@ = QuantizeLinear(v$ xs xz); d@ = DequantizeLinear(q@ xs xz); t@ = Transpose(d@) perm=0,2,1;"
        "m@ = MatMul(d@ t@); h@ = Tanh(m@); v@ = MatMul(h@ v%)",
        "v@ = Softmax(v$) axis=1",
    };
    char text[400];
    unsigned most = sizeof steps / sizeof steps[0], recent = i > 4 ? 4 : (unsigned)i;
    int from = (int)roll(d, 2) ? i - 1 - (int)roll(d, recent) : (int)roll(d, (unsigned)i), also = (int)roll(d, (unsigned)i);
    fill_in(text, sizeof text, steps[roll(d, most)], from, also, i);
    mb_nodes(b, text);
}

static struct builder *random_model(uint64_t seed)
{
    struct dice d = { .seed = seed };
    struct builder *b = mb_new(13);
    char output[16];
    mb_values(b, "v0:f32[b,4,6] to:i64{0,4,6} one:i64{1} half:f32(0.5) xs:f32(0.01) xz:u8(128) w:i8{9,-50,31,120,-7,0,77}@6,6 ws:f32(0.01) wz:i8(0)");
    for (int i = 1; i <= STEPS; i++)
        random_step(&d, b, i);
    for (int i = 0; i <= STEPS; i++)
        if (i == STEPS || roll(&d, 6) == 0) {
            snprintf(output, sizeof output, "v%d", i);
            mb_output(b, output);
        }
    return b;
}

struct ready { struct builder *b; struct graph *g; struct lowering how; struct plan *p; struct samples samples; };

static struct ready make_ready(uint64_t seed, bool lowered)
{
    struct err e = { 0 };
    struct ready r = { .b = random_model(seed) };
    r.g = graph_load(r.b->mem, mb_model(r.b), op_eval, &e);
    need(r.g && (lowered ? lowering_from_qdq : lowering_new)(&r.how, r.g, r.b->mem, &e), &e);
    random_samples(r.b->mem, r.g, ROWS, &r.samples);
    r.p = plan_new(r.g, &r.how, r.b->mem, &r.samples.inputs[0]->t.shape, &e);
    need(r.p != NULL, &e);
    return r;
}

static uint64_t bytes_of(const struct plan *p, int v)
{
    return (uint64_t)shape_elements(&p->facts.shape[v]) * (uint64_t)dtype_bits(p->g->values[v].dtype) / 8;
}

/* ---- laws ---- */

static void check_places(const struct plan *p)
{
    for (int a = 0; a < p->g->n_values; a++) {
        if (p->offset[a] == UINT64_MAX)
            continue;
        int born = p->g->values[a].producer, dies = p->last_use[a] < born ? born : p->last_use[a];
        assert_true(p->root[a] == a && born >= 0 && p->offset[a] + bytes_of(p, a) <= p->frame_bytes && p->offset[a] % 64 == 0);
        for (int b = 0; b < a; b++) {
            int born_b = p->g->values[b].producer, dies_b = p->last_use[b] < born_b ? born_b : p->last_use[b];
            if (p->offset[b] == UINT64_MAX || born > dies_b || born_b > dies)
                continue;
            if (p->offset[a] < p->offset[b] + bytes_of(p, b) && p->offset[b] < p->offset[a] + bytes_of(p, a))
                fail_msg("'%s' and '%s' live at once and share bytes", p->g->values[a].name, p->g->values[b].name);
        }
    }
}

static void no_two_living_values_share_bytes(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < GRAPHS; seed++)
        for (int lowered = 0; lowered < 2; lowered++) {
            struct ready r = make_ready(seed, lowered);
            check_places(r.p);
            mb_free(r.b);
        }
}

static void bind_inputs(const struct ready *r, struct frame *f)
{
    struct err e = { 0 };
    need(frame_bind(f, r->p, &r->how, &e), &e);
    memset(f->mem, 0xab, f->mem_size);
    for (int i = 0; i < r->g->n_inputs; i++)
        frame_set(f, r->g->inputs[i], r->samples.inputs[i]->t.data);
}

/* All outputs, one behind the other. */
static size_t copy_outputs(const struct ready *r, const struct frame *f, char *to)
{
    size_t n = 0;
    for (int i = 0; i < r->g->n_outputs; i++) {
        size_t bytes = (size_t)bytes_of(r->p, r->g->outputs[i]);
        memcpy(to + n, f->t[r->g->outputs[i]].data, bytes);
        n += bytes;
    }
    return n;
}

/* What must cross the cut, copied out of the first frame into the second; the copies are in mem. */
static void carry_over(const struct ready *r, int cut, const struct frame *from, struct frame *to, struct arena *mem)
{
    for (int v = 0; v < r->g->n_values; v++) {
        if (r->g->values[v].is_input || !plan_live_at(r->p, v, cut))
            continue;
        size_t n = (size_t)bytes_of(r->p, v);
        void *copy = arena_alloc(mem, n, NULL);
        memcpy(copy, from->t[v].data, n);
        frame_set(to, v, copy);
    }
}

static void check_cut(const struct ready *r, int cut, const char *want, size_t n)
{
    static char got[1 << 16];
    struct err e = { 0 };
    struct frame first = { 0 }, second = { 0 };
    struct arena *mem = arena_new(1 << 24);
    bind_inputs(r, &first);
    need(frame_run(&first, 0, cut, &e), &e);
    bind_inputs(r, &second);
    carry_over(r, cut, &first, &second, mem);
    memset(first.mem, 0xcd, first.mem_size);
    need(frame_run(&second, cut, r->g->n_nodes, &e), &e);
    assert_true(copy_outputs(r, &second, got) == n);
    if (memcmp(got, want, n) != 0)
        fail_msg("cut before node %d of %d: other bytes", cut, r->g->n_nodes);
    frame_release(&first);
    frame_release(&second);
    arena_free(mem);
}

static void a_run_cut_anywhere_and_carried_over_gives_the_same_bytes(void **state)
{
    (void)state;
    static char want[1 << 16];
    for (uint64_t seed = 0; seed < GRAPHS; seed++)
        for (int lowered = 0; lowered < 2; lowered++) {
            struct ready r = make_ready(seed, lowered);
            struct err e = { 0 };
            struct frame f = { 0 };
            bind_inputs(&r, &f);
            need(frame_run(&f, 0, r.g->n_nodes, &e), &e);
            size_t n = copy_outputs(&r, &f, want);
            for (int cut = 0; cut <= r.g->n_nodes; cut++)
                check_cut(&r, cut, want, n);
            frame_release(&f);
            mb_free(r.b);
        }
}

/* A frame that has served a larger plan gives the smaller one the same results. */
static void a_frame_may_be_used_again_for_another_plan(void **state)
{
    (void)state;
    struct frame used = { 0 };
    for (uint64_t seed = 0; seed < 40; seed++) {
        static char a[1 << 16], b[1 << 16];
        struct ready r = make_ready(seed, seed % 2);
        struct err e = { 0 };
        struct frame fresh = { 0 };
        bind_inputs(&r, &fresh);
        bind_inputs(&r, &used);
        need(frame_run(&fresh, 0, r.g->n_nodes, &e) && frame_run(&used, 0, r.g->n_nodes, &e), &e);
        size_t n = copy_outputs(&r, &fresh, a);
        assert_true(copy_outputs(&r, &used, b) == n);
        assert_memory_equal(a, b, n);
        frame_release(&fresh);
        mb_free(r.b);
    }
    frame_release(&used);
}

/* ---- views ---- */

static void views_are_the_bytes_of_what_they_show(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    struct err e = { 0 };
    mb_values(b, "x:f32[b,4,6] to:i64{0,24} back:i64{0,2,12} one:i64{1}");
    mb_nodes(b, "e = Exp(x); f = Flatten(e); r = Reshape(f back); u = Unsqueeze(r one); s = Squeeze(u one); y = Relu(s); i = Reshape(x to)");
    mb_output(b, "y i");
    struct graph *g = graph_load(b->mem, mb_model(b), op_eval, &e);
    struct lowering how;
    struct samples samples;
    need(g && lowering_new(&how, g, b->mem, &e), &e);
    random_samples(b->mem, g, ROWS, &samples);
    struct plan *p = plan_new(g, &how, b->mem, &samples.inputs[0]->t.shape, &e);
    struct frame f = { 0 };
    need(p && frame_bind(&f, p, &how, &e), &e);
    frame_set(&f, g->inputs[0], samples.inputs[0]->t.data);
    need(frame_run(&f, 0, g->n_nodes, &e), &e);
    int placed = 0;
    for (int v = 0; v < g->n_values; v++) {
        placed += p->offset[v] != UINT64_MAX;
        if (strchr("efrus", g->values[v].name[0]) && g->values[v].name[1] == '\0')
            assert_ptr_equal(f.t[v].data, f.mem + p->offset[p->root[v]]);
    }
    assert_int_equal(placed, 2);      /* e and y */
    assert_ptr_equal(f.t[g->outputs[1]].data, samples.inputs[0]->t.data);
    static const float other[72];
    frame_set(&f, g->inputs[0], other);
    assert_ptr_equal(f.t[g->outputs[1]].data, other);
    frame_release(&f);
    mb_free(b);
}

/* ---- chunks ---- */

static bool cut_into(struct builder *b, int64_t samples, int64_t batch, int64_t limit, struct chunks *c, struct graph **ret_g, struct err *e)
{
    struct lowering *how = mb_alloc(b, sizeof *how);
    struct samples *x = mb_alloc(b, sizeof *x);
    *ret_g = graph_load(b->mem, mb_model(b), op_eval, e);
    need(*ret_g && lowering_new(how, *ret_g, b->mem, e), e);
    random_samples(b->mem, *ret_g, samples, x);
    return chunks_new(c, *ret_g, how, b->mem, x, batch, limit, e);
}

/* The same with samples of lengths "3132.." along axis `axis` of the last input. */
static bool cut_by_lengths(struct builder *b, const char *lengths, int axis, struct chunks *c, struct graph **ret_g, struct err *e)
{
    int64_t count = (int64_t)strlen(lengths), *length = mb_alloc(b, (size_t)count * sizeof *length);
    struct lowering *how = mb_alloc(b, sizeof *how);
    struct samples *x = mb_alloc(b, sizeof *x);
    *ret_g = graph_load(b->mem, mb_model(b), op_eval, e);
    need(*ret_g && lowering_new(how, *ret_g, b->mem, e), e);
    random_samples(b->mem, *ret_g, count, x);
    x->row_input = (*ret_g)->n_inputs - 1;
    x->row_axis = axis;
    x->positions = x->inputs[x->row_input]->t.shape.dim[axis];
    uint8_t *real = mb_alloc(b, (size_t)(count * x->positions));
    for (int64_t i = 0; i < count; i++) {
        length[i] = lengths[i] - '0';
        for (int64_t k = 0; k < x->positions; k++)
            real[i * x->positions + k] = k < length[i];
    }
    x->lengths = length;
    x->real = real;
    return chunks_new(c, *ret_g, how, b->mem, x, 0, 0, e);
}

static void samples_are_cut_by_number_alone(void **state)
{
    (void)state;
    static const struct { const char *label, *input; int64_t samples, batch, limit; int n; int64_t count, first_rows, last_rows; } rows[] = {
        { "small samples", "x:f32[b,4]", 20, 0, 0, 3, 20, 8, 4 },
        { "large samples", "x:f32[b,256,257]", 9, 0, 0, 3, 9, 4, 1 },
        { "a batch of one's own", "x:f32[b,4]", 20, 7, 0, 3, 20, 7, 6 },
        { "a batch larger than all", "x:f32[b,4]", 5, 7, 0, 1, 5, 5, 5 },
        { "no more than the limit", "x:f32[b,4]", 20, 0, 9, 2, 9, 8, 1 },
        { "a limit beyond the end", "x:f32[b,4]", 20, 0, 900, 3, 20, 8, 4 },
        { "the model's own batch", "x:f32[5,4]", 20, 0, 0, 4, 20, 5, 5 },
        { "the model's own batch and a limit", "x:f32[5,4]", 20, 5, 13, 2, 10, 5, 5 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct builder *b = mb_new(17);
        struct chunks c;
        struct graph *g;
        struct err e = { 0 };
        mb_values(b, rows[i].input);
        mb_nodes(b, "y = Relu(x)");
        mb_output(b, "y");
        need(cut_into(b, rows[i].samples, rows[i].batch, rows[i].limit, &c, &g, &e), &e);
        if (c.n != rows[i].n || c.count != rows[i].count || c.chunk[0].rows != rows[i].first_rows || c.chunk[c.n - 1].rows != rows[i].last_rows)
            fail_msg("%s: %d chunks of %lld", rows[i].label, c.n, (long long)c.count);
        int64_t next = 0;
        for (int k = 0; k < c.n; k++) {
            assert_true(c.chunk[k].first == next && c.chunk[k].plan->inputs[0].dim[0] == c.chunk[k].rows);
            next += c.chunk[k].rows;
            if (k > 0 && c.chunk[k].rows == c.chunk[0].rows)
                assert_ptr_equal(c.chunk[k].plan, c.chunk[0].plan);
        }
        assert_true(next == c.count);
        mb_free(b);
    }
}

/* "02:3 1:2": samples 0 and 2 at length 3, then sample 1 at 2. */
static void chunks_text(const struct chunks *c, int input, int axis, char *buf, size_t size)
{
    size_t n = 0;
    for (int k = 0; k < c->n && n < size; k++) {
        for (int64_t r = 0; r < c->chunk[k].rows && n < size; r++)
            n += (size_t)snprintf(buf + n, size - n, "%s%d", k && r == 0 ? " " : "", (int)c->chunk[k].sample[r]);
        n += n < size ? (size_t)snprintf(buf + n, size - n, ":%d", (int)c->chunk[k].plan->inputs[input].dim[axis]) : 0;
    }
}

static void samples_of_one_length_share_a_chunk(void **state)
{
    (void)state;
    static const struct { const char *label, *inputs, *nodes; int axis; const char *lengths, *chunks; int padding; } rows[] = {
        { "as they come", "x:f32[b,t] m:f32[b,t]", "y = Add(x m)", 1, "3132331", "0245:3 16:1 3:2", 0 },
        { "no more than a chunk's", "x:f32[b,t] m:f32[b,t]", "y = Add(x m)", 1, "2222122222", "01235678:2 4:1 9:2", 0 },
        { "another axis", "x:f32[b,4,t]", "y = Relu(x)", 2, "312", "0:3 1:1 2:2", 0 },
        { "more than one", "x:f32[b,t,t] m:f32[b,t]", "z = ReduceMax(x) axes=1, keepdims=0; y = Add(z m)", 1, "313", "02:3 1:1", 0 },
        { "one at a time", "x:f32[1,t] m:f32[1,t]", "y = Add(x m)", 1, "332", "0:3 1:3 2:2", 0 },
        { "the model's own batch", "x:f32[2,t] m:f32[2,t]", "y = Add(x m)", 1, "121112", "01:2 23:1 45:2", 20 },
        { "a fixed length", "x:f32[b,3] m:f32[b,3]", "y = Add(x m)", 1, "132", "012:3", 33 },
        { "only the mask is open", "x:f32[b,3] m:f32[b,t]", "y = Add(x m)", 1, "132", "012:3", 33 },
        { "the exporter wrote it down", "x:f32[b,t] m:f32[b,t] c:f32{1,2,3}", "z = Add(x m); y = Add(z c)", 1, "231", "012:3", 33 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct builder *b = mb_new(17);
        struct chunks c;
        struct graph *g;
        struct err e = { 0 };
        char got[200] = "";
        mb_values(b, rows[i].inputs);
        mb_nodes(b, rows[i].nodes);
        mb_output(b, "y");
        need(cut_by_lengths(b, rows[i].lengths, rows[i].axis, &c, &g, &e), &e);
        chunks_text(&c, g->n_inputs - 1, rows[i].axis, got, sizeof got);
        for (int k = 0; k < c.n; k++) {
            assert_int_equal(c.chunk[k].first, k ? c.chunk[k - 1].first + c.chunk[k - 1].rows : 0);
            for (int j = 0; j < k; j++)
                assert_int_equal(c.chunk[j].plan == c.chunk[k].plan, c.chunk[j].rows == c.chunk[k].rows
                                 && shape_equal(&c.chunk[j].plan->inputs[0], &c.chunk[k].plan->inputs[0]));
        }
        if (strcmp(got, rows[i].chunks) != 0 || (int)chunks_padding(&c) != rows[i].padding)
            fail_msg("%s: '%s', %g %% padding", rows[i].label, got, chunks_padding(&c));
        mb_free(b);
    }
}

static bool add_up(void *arg, int chunk, int thread, struct frame *f, struct err *e)
{
    double *sums = arg;
    (void)thread;
    (void)e;
    const struct tensor *t = &f->t[f->plan->g->outputs[0]];
    for (int64_t i = 0; i < shape_elements(&t->shape); i++)
        sums[chunk] += (double)((const float *)t->data)[i];
    return true;
}

static void a_cut_sample_keeps_its_corner(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    struct chunks c;
    struct graph *g;
    struct err e = { 0 };
    double sums[8] = { 0 };
    mb_values(b, "n:f32[b] x:f32[b,2,t,t] m:f32[b,t]");
    mb_nodes(b, "p = ReduceSum(m) keepdims=0; q = Mul(n p); y = Mul(x x)");
    mb_output(b, "y");
    mb_output(b, "q");
    need(cut_by_lengths(b, "2312213", 1, &c, &g, &e), &e);
    struct pool *pool = pool_new(2, &e);
    need(pool && chunks_run(&c, c.chunk[0].plan->how, pool, add_up, sums, &e), &e);
    pool_free(pool);
    const float *x = c.samples->inputs[1]->t.data;
    for (int k = 0; k < c.n; k++) {
        double want = 0;
        void *temp = NULL;
        const float *n = chunk_input(&c, k, 0, &temp, &e);
        for (int64_t r = 0; r < c.chunk[k].rows; r++) {
            int64_t i = c.chunk[k].sample[r], length = c.samples->lengths[i];
            assert_true(n[r] == ((const float *)c.samples->inputs[0]->t.data)[i]);
            for (int64_t at = 0; at < 2 * 3 * 3; at++)
                if (at / 3 % 3 < length && at % 3 < length)
                    want += (double)(x[i * 18 + at] * x[i * 18 + at]);
        }
        free(temp);
        assert_true(fabs(want - sums[k]) < 1e-6);
        chunk_rest(&c, k);
    }
    mb_free(b);
}

static void a_batch_that_cannot_be_is_refused(void **state)
{
    (void)state;
    static const struct { const char *input; int64_t samples, batch, limit; const char *where, *says; } rows[] = {
        { "x:f32[5,4]", 20, 4, 0, "batch", "batches of 5" },
        { "x:f32[5,4]", 20, 0, 4, "samples", "fewer than one batch of 5" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct builder *b = mb_new(17);
        struct chunks c;
        struct graph *g;
        struct err e = { 0 };
        mb_values(b, rows[i].input);
        mb_nodes(b, "y = Relu(x)");
        mb_output(b, "y");
        assert_false(cut_into(b, rows[i].samples, rows[i].batch, rows[i].limit, &c, &g, &e));
        assert_int_equal(e.code, ERR_DATA_SHAPE);
        assert_string_equal(e.where, rows[i].where);
        assert_non_null(strstr(e.text, rows[i].says));
        mb_free(b);
    }
}

static bool keep_chunk(void *arg, int chunk, int thread, struct frame *f, struct err *e)
{
    float *to = arg;
    (void)thread;
    (void)e;
    const struct tensor *t = &f->t[f->plan->g->outputs[0]];
    memcpy(to + chunk * 8 * 4, t->data, (size_t)shape_elements(&t->shape) * sizeof *to);
    return true;
}

static void every_chunk_meets_its_own_samples(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    struct chunks c;
    struct graph *g;
    struct err e = { 0 };
    float got[21 * 4] = { 0 };
    mb_values(b, "x:f32[b,4]");
    mb_nodes(b, "y = Abs(x)");
    mb_output(b, "y");
    need(cut_into(b, 21, 0, 0, &c, &g, &e), &e);
    struct pool *pool = pool_new(3, &e);
    need(pool && chunks_run(&c, c.chunk[0].plan->how, pool, keep_chunk, got, &e), &e);
    const float *x = c.samples->inputs[0]->t.data;
    for (int i = 0; i < 21 * 4; i++)
        assert_true(got[i] == fabsf(x[i]));
    pool_free(pool);
    mb_free(b);
}

int main(void)
{
    struct err e = { 0 };
    if (!blas_init(&e))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_two_living_values_share_bytes),
        cmocka_unit_test(a_run_cut_anywhere_and_carried_over_gives_the_same_bytes),
        cmocka_unit_test(a_frame_may_be_used_again_for_another_plan),
        cmocka_unit_test(views_are_the_bytes_of_what_they_show),
        cmocka_unit_test(samples_are_cut_by_number_alone),
        cmocka_unit_test(samples_of_one_length_share_a_chunk),
        cmocka_unit_test(a_cut_sample_keeps_its_corner),
        cmocka_unit_test(a_batch_that_cannot_be_is_refused),
        cmocka_unit_test(every_chunk_meets_its_own_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
