#include "core/cli/made_samples.h"

#include "core/cli/random_tokens.h"
#include "core/exec/run.h"

enum { TOKENS = 128, PROBE_TOKENS = 16, SAMPLES = 64, SAMPLES_MAX = 4096 };

struct maker {
    const struct graph *g;
    const struct lowering *how;
    bool tokens;                           /* to calibrate on */
    int64_t count, length, vocabulary;     /* rows of the largest table */
    uint64_t seed;
    struct arena *mem;
};

static bool give_some(struct err *e, const struct value *v, const char *why)
{
    return err_set(e, ERR_DATA_REQUIRED, v->name, "%s; give calibration data", why);
}

static void set_int(struct tensor *t, int64_t i, int64_t x)
{
    switch (t->dtype) {
    case DT_I64: ((int64_t *)t->data)[i] = x; break;
    case DT_I32: ((int32_t *)t->data)[i] = (int32_t)x; break;
    case DT_BOOL: ((uint8_t *)t->data)[i] = (uint8_t)x; break;
    default: break;                        /* other types are 0 throughout */
    }
}

static void fill(const struct maker *m, int input, struct tensor *t)
{
    int64_t n = shape_elements(&t->shape), last = t->shape.dim[t->shape.rank - 1], rows = table_rows(m->g, m->g->inputs[input]);
    uint64_t seed = m->seed + (uint64_t)input;
    for (int64_t i = 0; i < n; i++) {
        uint64_t random = hash_mix(seed, (uint64_t)i);
        if (t->dtype == DT_F32)
            ((float *)t->data)[i] = (float)(random >> 40) * 0x1p-24f;
        else if (rows == 0)
            set_int(t, i, 1);
        else if (rows == m->vocabulary)
            set_int(t, i, (int64_t)(random % (uint64_t)rows));
        else
            set_int(t, i, rows >= last ? i % last : 0);
    }
}

static bool make(const struct maker *m, int input, struct array *ret, struct err *e)
{
    const struct value *v = &m->g->values[m->g->inputs[input]];
    uint64_t bytes;
    *ret = (struct array){ .name = v->name, .t = { .dtype = v->dtype, .shape = v->shape } };
    for (int i = 0; i < v->shape.rank; i++)
        if (i == 0 || v->shape.dim[i] < 0)
            ret->t.shape.dim[i] = i ? m->length : m->count;
    if (!tensor_size(v->dtype, &ret->t.shape, v->name, NULL, &bytes, e) || !(ret->t.data = arena_alloc(m->mem, bytes, e)))
        return false;
    fill(m, input, &ret->t);
    return true;
}

static bool make_all(const struct maker *m, struct samples *ret, struct err *e)
{
    struct array *arrays = arena_array(m->mem, (uint64_t)m->g->n_inputs, sizeof *arrays, e);
    *ret = (struct samples){ .n_inputs = (size_t)m->g->n_inputs, .count = m->count };
    ret->inputs = arena_array(m->mem, ret->n_inputs, sizeof *ret->inputs, e);
    for (int i = 0; arrays && ret->inputs && i < m->g->n_inputs; i++) {
        if (!make(m, i, &arrays[i], e))
            return false;
        ret->inputs[i] = &arrays[i];
    }
    return arrays && ret->inputs;
}

/* Ids can be drawn, pictures cannot: nothing would be learned from them. */
static bool look_at_inputs(struct maker *m, struct err *e)
{
    int64_t batch = 1;
    for (int i = 0; i < m->g->n_inputs; i++) {
        const struct value *v = &m->g->values[m->g->inputs[i]];
        int64_t rows = table_rows(m->g, m->g->inputs[i]);
        if (v->shape.rank < 1)
            return give_some(e, v, "the input's rank is not known, or it has no axis of samples");
        if (m->tokens && v->dtype == DT_F32)
            return give_some(e, v, "the input takes floats, and only ids of tokens can be drawn at random");
        m->vocabulary = rows > m->vocabulary ? rows : m->vocabulary;
        batch = v->shape.dim[0] > 0 ? v->shape.dim[0] : batch;
    }
    m->count = (m->count + batch - 1) / batch * batch;
    return true;
}

bool made_samples(const struct loaded_model *model, const struct recipe *r, uint64_t seed, struct arena *mem, struct samples *ret, struct err *e)
{
    bool tokens = r->calibration.random_tokens;
    struct maker m = { .g = model->g, .how = &model->how, .tokens = tokens, .count = 1, .seed = seed, .mem = mem };
    struct err why = { 0 };
    struct chunks chunks;
    if (tokens)
        m.count = r->calibration.samples ? r->calibration.samples : SAMPLES;
    if (m.count > SAMPLES_MAX)
        return err_set(e, ERR_RECIPE_COMBINATION, "/calibration/samples", "at most %d samples are drawn at random; ask for fewer or give calibration data",
                       SAMPLES_MAX);
    if (!look_at_inputs(&m, e))
        return false;
    for (m.length = tokens ? TOKENS : PROBE_TOKENS; m.length > 0; m.length /= 2) {
        why = (struct err){ 0 };
        if (make_all(&m, ret, &why) && chunks_new(&chunks, m.g, m.how, mem, ret, 0, 0, &why))
            return !tokens || random_tokens(m.g, seed, mem, ret, e);
    }
    return err_set(e, ERR_DATA_REQUIRED, why.where, "the lengths that the model leaves open cannot be made up (%.200s); give calibration data", why.text);
}
