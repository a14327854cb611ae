/*
 * samples.c - does this data set fit that model?  Every answer names the array, what was expected and what was found.
 */
#include "core/base/buf.h"
#include "core/data/convert.h"
#include "core/data/format.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_SYMBOLS = 64 };

struct check {
    struct arena *mem;
    const struct dataset *data;
    const struct input_spec *specs;
    size_t n_specs;
    struct { int64_t symbol, value; const char *array; } symbols[MAX_SYMBOLS];   /* the dimensions seen so far */
    int n_symbols;
    bool shapes;               /* there is no data behind the arrays */
    struct err *e;
};

/* "[N,3,224,224]": axis 0 counts samples, or batches where the model fixed the batch. */
static const char *expected_text(const struct shape *s, char *buf, size_t size)
{
    size_t n = (size_t)snprintf(buf, size, s->rank < 0 ? "[N,...]" : "[");
    for (int i = 0; i < s->rank && n < size; i++) {
        const char *comma = i ? "," : "";
        if (i == 0 && s->dim[0] <= 1)
            n += (size_t)snprintf(buf + n, size - n, "N");
        else if (i == 0)
            n += (size_t)snprintf(buf + n, size - n, "N*%lld", (long long)s->dim[0]);
        else
            n += (size_t)(s->dim[i] < 0 ? snprintf(buf + n, size - n, "%s?", comma)
                                        : snprintf(buf + n, size - n, "%s%lld", comma, (long long)s->dim[i]));
    }
    if (s->rank >= 0 && n < size)
        snprintf(buf + n, size - n, "]");
    return buf;
}

/* ---- names ---- */

static bool missing(struct check *c, const char *name)
{
    struct buf want = BUF_INIT(2048), have = BUF_INIT(2048);
    for (size_t i = 0; i < c->n_specs && want.n < 120; i++)
        buf_printf(&want, "%s%.60s", i ? ", " : "", c->specs[i].name);
    for (size_t i = 0; i < c->data->n && have.n < 120; i++)
        buf_printf(&have, "%s%.60s", i ? ", " : "", c->data->arrays[i].name);    // NOLINT(clang-analyzer-core.NullDereference): there are n
    err_set(c->e, ERR_DATA_SCHEMA, name,
            "no array is named \"%.60s\": the model takes %s, the file has %s; rename the arrays after the model's inputs",
            name, want.p ? want.p : "nothing", have.p ? have.p : "nothing");
    buf_release(&want);
    buf_release(&have);
    return false;
}

/* A .npy has no name inside, and who has pictures may not know it: the array stands for the only input. */
static const struct array *find_input(const struct check *c, const struct input_spec *spec)
{
    const struct array *a = dataset_find(c->data, spec->name);
    bool nameless = strcmp(c->data->format, "npy") == 0 || strcmp(c->data->format, "images") == 0;
    return !a && c->n_specs == 1 && nameless ? &c->data->arrays[0] : a;
}

/* ---- types ---- */

static bool check_dtype(struct check *c, const struct array *a, const struct input_spec *spec)
{
    if (dtype_convertible(a->t.dtype, spec->dtype))
        return true;
    bool from_float = dtype_is_float(a->t.dtype), to_float = dtype_is_float(spec->dtype);
    const char *remedy = to_float && dtype_is_integer(a->t.dtype) ? "apply the model's preprocessing first (scale, mean, std)"
                       : from_float && dtype_is_integer(spec->dtype) ? "the model takes whole numbers such as token ids"
                       : "convert it before saving";
    return err_set(c->e, ERR_DATA_DTYPE, a->name, "the array is %s, the model takes %s; %s, then save a.astype(\"%s\")",
                   dtype_name(a->t.dtype), dtype_name(spec->dtype), remedy, dtype_name(spec->dtype));
}

/* ---- shapes ---- */

static bool dim_fits(int64_t want, int64_t found) { return want < 0 || want == found; }

static bool dims_fit(const struct shape *want, const struct shape *found, int from)
{
    for (int i = from; i < want->rank; i++)
        if (!dim_fits(want->dim[i], found->dim[i]))
            return false;
    return true;
}

/* What the user probably did, where the found shape tells. */
static const char *suspicion(const struct shape *want, const struct shape *found)
{
    const int64_t *w = want->dim, *f = found->dim;
    if (want->rank == 4 && found->rank == 4 && w[1] > 0 && w[1] == f[3] && dim_fits(w[2], f[1]) && dim_fits(w[3], f[2]))
        return "this looks like channels last (NHWC): save a.transpose(0, 3, 1, 2)";
    if (found->rank == want->rank - 1) {
        struct shape one = { .rank = want->rank, .dim = { 1 } };
        memcpy(one.dim + 1, f, (size_t)found->rank * sizeof *f);
        if (dims_fit(want, &one, 1))
            return "the axis of samples is missing: save a[None], or stack the samples";
    }
    if (found->rank != want->rank)
        return "the number of dimensions differs";
    return "resize, crop or pad the samples to what the model takes";
}

static bool wrong_shape(struct check *c, const struct array *a, const struct input_spec *spec)
{
    char want[160], found[160];
    return err_set(c->e, ERR_DATA_SHAPE, a->name, "expected %s, found %s; %s", expected_text(&spec->shape, want, sizeof want),
                   shape_text(&a->t.shape, found, sizeof found), suspicion(&spec->shape, &a->t.shape));
}

/* One symbolic dimension has one length, whichever input it is met in. */
static bool bind_symbol(struct check *c, const struct array *a, int axis, int64_t symbol)
{
    int64_t value = a->t.shape.dim[axis];
    for (int i = 0; i < c->n_symbols; i++)
        if (c->symbols[i].symbol == symbol)
            return c->symbols[i].value == value ||
                   err_set(c->e, ERR_DATA_SHAPE, a->name,
                           "axis %d has length %lld, but the same dimension has length %lld in \"%.60s\"; make them equal",
                           axis, (long long)value, (long long)c->symbols[i].value, c->symbols[i].array);
    if (c->n_symbols == MAX_SYMBOLS)
        return err_set(c->e, ERR_DATA_LIMIT, a->name, "the model's inputs have more than %d symbolic dimensions", MAX_SYMBOLS);
    c->symbols[c->n_symbols].symbol = symbol;
    c->symbols[c->n_symbols].value = value;
    c->symbols[c->n_symbols++].array = a->name;
    return true;
}

static bool check_shape(struct check *c, const struct array *a, const struct input_spec *spec)
{
    const struct shape *want = &spec->shape, *found = &a->t.shape;
    if (want->rank == 0)
        return err_set(c->e, ERR_DATA_SHAPE, spec->name,
                       "the model takes a single number here, not samples; make it a constant of the model");
    if (found->rank < 1 || (want->rank > 0 && (want->rank != found->rank || !dims_fit(want, found, 1))))
        return wrong_shape(c, a, spec);
    if (found->dim[0] == 0 || shape_elements(found) == 0)
        return err_set(c->e, ERR_DATA_SHAPE, a->name, "the array is empty; give at least one sample");
    if (want->rank > 0 && want->dim[0] == 0)
        return wrong_shape(c, a, spec);
    if (want->rank > 0 && want->dim[0] > 0 && found->dim[0] % want->dim[0] != 0)
        return err_set(c->e, ERR_DATA_SHAPE, a->name,
                       "the model takes exactly %lld samples at a time and %lld is no multiple of it; leave some out",
                       (long long)want->dim[0], (long long)found->dim[0]);
    for (int i = 0; i < want->rank; i++)
        if (want->dim[i] < 0 && !bind_symbol(c, a, i, want->dim[i]))
            return false;
    return true;
}

static bool check_count(struct check *c, const struct array *a, struct samples *s)
{
    int64_t rows = a->t.shape.dim[0];
    if (s->count == 0)
        s->count = rows;
    return rows == s->count ||
           err_set(c->e, ERR_DATA_SHAPE, a->name,
                   "%lld samples, but \"%.60s\" has %lld; every array needs the same number on its first axis",
                   (long long)rows, s->inputs[0]->name, (long long)s->count);
}

/* ---- values ---- */

/* Adding zeros is a fast way to ask a whole block: x * 0 is NaN exactly where x is not finite. */
static int64_t f32_not_finite(const struct tensor *t, int64_t from, int64_t end)
{
    const float *x = t->data;
    float sum = 0;
    for (int64_t i = from; i < end; i++)
        sum += x[i] * 0.0f;
    for (int64_t i = from; i < end && isnan(sum); i++)
        if (!isfinite(x[i]))
            return i;
    return -1;
}

static int64_t not_finite(const struct tensor *t, int64_t from, int64_t end)
{
    for (int64_t i = from; i < end; i++)
        if (!isfinite(tensor_real(t, i)))
            return i;
    return -1;
}

static int64_t first_not_finite(const struct array *a)
{
    enum { BLOCK = DATA_PIECE / 8 };
    int64_t n = shape_elements(&a->t.shape), bad = -1;
    for (int64_t at = 0; at < n && bad < 0 && dtype_is_float(a->t.dtype); at += BLOCK) {
        int64_t end = n - at < BLOCK ? n : at + BLOCK;
        bad = a->t.dtype == DT_F32 ? f32_not_finite(&a->t, at, end) : not_finite(&a->t, at, end);
        array_rest(a, at, end - at);
    }
    return bad;
}

static bool check_values(struct check *c, const char *name, const struct array *a)
{
    const struct tensor *t = &a->t;
    int64_t n = shape_elements(&t->shape), bad = first_not_finite(a);
    if (bad >= 0) {
        double x = tensor_real(t, bad);
        return err_set(c->e, ERR_DATA_VALUES, name,
                       "%s at flat index %lld (sample %lld); clean the data, one such value would spoil every range",
                       isnan(x) ? "NaN" : x > 0 ? "+infinity" : "-infinity",
                       (long long)bad, (long long)(bad / shape_count(&t->shape, 1, t->shape.rank)));
    }
    for (int64_t i = 0; t->dtype == DT_BOOL && i < n; i++)
        if (((const uint8_t *)t->data)[i] > 1)
            return err_set(c->e, ERR_DATA_VALUES, name,
                           "the bool at flat index %lld is neither 0 nor 1; save a.astype(bool)", (long long)i);
    return true;
}

/* ---- labels ---- */

static bool read_labels(struct check *c, struct samples *s)
{
    const struct array *a = dataset_find(c->data, "labels");
    for (size_t i = 0; i < c->n_specs; i++)
        if (a && strcmp(c->specs[i].name, a->name) == 0)
            return true;                   /* an input of the model that happens to have this name */
    if (!a)
        return true;
    if (!dtype_is_integer(a->t.dtype))
        return err_set(c->e, ERR_DATA_DTYPE, a->name,
                       "labels must be class numbers of an integer type, they are %s; save labels.astype(\"int64\")",
                       dtype_name(a->t.dtype));
    if (a->t.shape.rank != 1 || a->t.shape.dim[0] != s->count) {
        char found[160];
        return err_set(c->e, ERR_DATA_SHAPE, a->name, "expected [%lld], one label a sample, found %s", (long long)s->count,
                       shape_text(&a->t.shape, found, sizeof found));
    }
    struct array labels;
    if (!array_convert(c->mem, a, DT_I64, &labels, c->e))
        return false;
    s->labels = labels.t.data;
    return true;
}

/* ---- all together ---- */

static bool read_input(struct check *c, const struct input_spec *spec, const struct array **ret)
{
    const struct array *a = find_input(c, spec);
    if (!a)
        return missing(c, spec->name);
    struct array *ready = arena_alloc(c->mem, sizeof *ready, c->e);
    if (!ready || !check_dtype(c, a, spec) || !check_shape(c, a, spec))
        return false;
    *ret = ready;
    if (c->shapes) {
        *ready = (struct array){ .name = spec->name, .t = { spec->dtype, a->t.shape, NULL } };
        return true;
    }
    if (!array_convert(c->mem, a, spec->dtype, ready, c->e))
        return false;
    ready->name = spec->name;
    return check_values(c, a->name, ready);
}

static bool read_inputs(struct check *c, struct samples *ret)
{
    struct samples s = { .n_inputs = c->n_specs, .inputs = arena_array(c->mem, c->n_specs, sizeof *s.inputs, c->e) };
    if (!s.inputs)
        return false;
    for (size_t i = 0; i < c->n_specs; i++)
        if (!read_input(c, &c->specs[i], &s.inputs[i]) || !check_count(c, s.inputs[i], &s))
            return false;
    *ret = s;
    return true;
}

bool dataset_samples(struct arena *mem, const struct dataset *d, const struct input_spec *specs, size_t n_specs,
                     struct samples *ret, struct err *e)
{
    struct check c = { .mem = mem, .data = d, .specs = specs, .n_specs = n_specs, .e = e };
    struct samples s;
    if (!read_inputs(&c, &s) || !read_labels(&c, &s))
        return false;
    *ret = s;
    return true;
}

bool dataset_shapes(struct arena *mem, const struct dataset *d, const struct input_spec *specs, size_t n_specs,
                    struct samples *ret, struct err *e)
{
    struct check c = { .mem = mem, .data = d, .specs = specs, .n_specs = n_specs, .shapes = true, .e = e };
    return read_inputs(&c, ret);
}
