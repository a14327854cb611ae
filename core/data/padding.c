/*
 * padding.c - which positions of the samples are padding: what the model's own mask says, or an array "lengths".
 */
#include "core/data/convert.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct search {
    struct arena *mem;
    const struct input_spec *specs;
    size_t n_specs;
    struct samples *s;
    struct err *e;
};

/* Inputs of these names and shape [samples, positions] are masks by everybody's habit: 1 is a token, 0 is padding. */
static bool is_mask(const struct input_spec *spec, const struct array *a)
{
    static const char *const names[] = { "attention_mask", "input_mask" };
    size_t n = strcspn(spec->name, ":");               /* "input_mask:0" */
    bool fits = a->t.shape.rank == 2 && (dtype_is_integer(a->t.dtype) || a->t.dtype == DT_BOOL || a->t.dtype == DT_F32);
    for (size_t i = 0; fits && i < sizeof names / sizeof names[0]; i++)
        if (strlen(names[i]) == n && memcmp(names[i], spec->name, n) == 0)
            return true;
    return false;
}

static bool told_along(struct search *c, size_t input, int axis)
{
    c->s->row_input = (int)input;
    c->s->row_axis = axis;
    c->s->positions = c->s->inputs[input]->t.shape.dim[axis];
    return true;
}

/* ---- a mask ---- */

/* Ones and zeros of the mask as bytes; false: it holds something else and means something else. */
static bool copy_mask(const struct array *a, uint8_t *ret, bool *ret_all)
{
    int64_t n = shape_elements(&a->t.shape);
    *ret_all = true;
    for (int64_t i = 0; i < n; i++) {
        double x = tensor_real(&a->t, i);
        if (x != 0 && x != 1)
            return false;
        ret[i] = x == 1;
        *ret_all &= x == 1;
    }
    return true;
}

static bool read_mask(struct search *c, size_t input)
{
    const struct array *a = c->s->inputs[input];
    bool all;
    uint8_t *real = arena_array(c->mem, (uint64_t)shape_elements(&a->t.shape), 1, c->e);
    if (!real)
        return false;
    if (copy_mask(a, real, &all) && told_along(c, input, 1) && !all)
        c->s->real = real;
    return true;
}

/* ---- lengths ---- */

/* The axis they count: the only one, beside that of samples, whose length the model leaves open, or the second of its token ids. */
static bool find_axis(struct search *c, const char *where)
{
    int64_t symbol = 0;
    for (size_t i = 0; i < c->n_specs; i++)
        for (int k = 1; k < c->specs[i].shape.rank; k++) {
            int64_t dim = c->specs[i].shape.dim[k];
            if (dim < 0 && symbol < 0 && dim != symbol)
                return err_set(c->e, ERR_DATA_SCHEMA, where, "the model's inputs have several axes of any length, so it is not known "
                               "which one the lengths are of; use a model with an input attention_mask");
            if (dim < 0 && symbol == 0)
                told_along(c, i, k);
            symbol = dim < 0 ? dim : symbol;
        }
    for (size_t i = 0; symbol == 0 && i < c->n_specs; i++)
        if (c->s->inputs[i]->t.shape.rank == 2 && dtype_is_integer(c->s->inputs[i]->t.dtype))
            return told_along(c, i, 1);
    return symbol < 0 || err_set(c->e, ERR_DATA_SCHEMA, where, "no input of the model has an axis that lengths could be of; rename the array");
}

static bool check_lengths(struct search *c, const struct array *a, const int64_t *length)
{
    for (int64_t i = 0; i < c->s->count; i++)
        if (length[i] < 1 || length[i] > c->s->positions)
            return err_set(c->e, ERR_DATA_VALUES, a->name, "sample %" PRId64 " has length %" PRId64 ", which is not within 1..%" PRId64 "; count its "
                           "positions before the padding", i, length[i], c->s->positions);
    return true;
}

static bool apply_lengths(struct search *c, const int64_t *length)
{
    int64_t n = c->s->positions;
    uint8_t *real = arena_array(c->mem, (uint64_t)(c->s->count * n), 1, c->e);
    bool all = true;
    for (int64_t i = 0; real && i < c->s->count; i++)
        for (int64_t k = 0; k < n; k++) {
            real[i * n + k] = k < length[i] && (!c->s->real || c->s->real[i * n + k]);
            all &= real[i * n + k];
        }
    c->s->real = all ? NULL : real;
    return real != NULL;
}

static bool read_lengths(struct search *c, const struct array *a)
{
    struct array length;
    char found[160];
    if (!dtype_is_integer(a->t.dtype))
        return err_set(c->e, ERR_DATA_DTYPE, a->name, "lengths count positions, they are %s; save lengths.astype(\"int64\")", dtype_name(a->t.dtype));
    if (a->t.shape.rank != 1 || a->t.shape.dim[0] != c->s->count)
        return err_set(c->e, ERR_DATA_SHAPE, a->name, "expected [%" PRId64 "], one length a sample, found %s", c->s->count,
                       shape_text(&a->t.shape, found, sizeof found));
    return (c->s->positions || find_axis(c, a->name)) && array_convert(c->mem, a, DT_I64, &length, c->e)
        && check_lengths(c, a, length.t.data) && apply_lengths(c, length.t.data);
}

bool samples_padding(struct arena *mem, const struct dataset *d, const struct input_spec *specs, size_t n_specs, struct samples *io,
                     struct err *e)
{
    struct search c = { mem, specs, n_specs, io, e };
    const struct array *lengths = dataset_find(d, "lengths");
    for (size_t i = 0; i < n_specs; i++) {
        if (lengths && strcmp(specs[i].name, lengths->name) == 0)
            lengths = NULL;                /* an input of the model that happens to have this name */
        if (io->positions == 0 && is_mask(&specs[i], io->inputs[i]) && !read_mask(&c, i))
            return false;
    }
    return !lengths || read_lengths(&c, lengths);
}

/* ---- for calibration ---- */

bool samples_cut(struct arena *mem, struct samples *io, struct err *e)
{
    if (!io->real)
        return true;
    int64_t n = io->positions, *length = arena_array(mem, (uint64_t)io->count, sizeof *length, e);
    for (int64_t i = 0; length && i < io->count; i++) {
        for (length[i] = n; length[i] > 0 && !io->real[i * n + length[i] - 1]; )
            length[i]--;
        if (length[i] == 0)
            return err_set(e, ERR_DATA_VALUES, io->inputs[io->row_input]->name, "sample %" PRId64 " is padding from end to end; leave it out", i);
    }
    io->lengths = length;
    return length != NULL;
}
