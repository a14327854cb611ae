#include "core/cli/validation.h"

#include "core/base/utf8.h"
#include "core/cli/advice.h"
#include "core/exec/run.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct report { json_t *checks; bool ok; const struct dataset *data; };

/* "/inventory/arrays/2" of the array that a check is about; all of them where it is about none. */
static const char *pointer_of(const struct report *r, const char *array, char *buf, size_t size)
{
    snprintf(buf, size, "/inventory/arrays");
    for (size_t i = 0; array && i < r->data->n; i++)
        if (strcmp(r->data->arrays[i].name, array) == 0)
            snprintf(buf, size, "/inventory/arrays/%zu", i);
    return buf;
}

/* Messages of this house are "what is wrong; what to do". */
static void add(struct report *r, const char *level, const char *code, const char *array, const char *text)
{
    char pointer[40], detail[400];
    const char *cut = strstr(text, "; ");
    snprintf(detail, sizeof detail, "%.*s", cut ? (int)(cut - text) : (int)strlen(text), text);
    json_array_append_new(r->checks, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?}", "code", code, "level", level,
                                               "pointer", pointer_of(r, array, pointer, sizeof pointer), "where", array ? array : "",
                                               "detail", detail, "remedy", cut ? cut + 2 : NULL));
    r->ok = r->ok && strcmp(level, "error") != 0;
}

__attribute__((format(printf, 4, 5))) static void warn(struct report *r, const char *code, const char *array, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    utf8_mend(text);
    add(r, "warning", code, array, text);
}

/* Each input by itself, so that one mistake does not hide the next. */
static bool check_inputs(struct report *r, struct loaded_data *d, const struct input_spec *specs, size_t n)
{
    bool all = true;
    for (size_t i = 0; i < n; i++) {
        struct err why = { 0 };
        struct samples s;
        char text[256], shape[160];
        bool ok = dataset_samples(d->mem, &d->set, &specs[i], 1, &s, &why);
        if (!ok)
            add(r, "error", err_slug(why.code), why.where, why.text);
        else {
            snprintf(text, sizeof text, "%s %s fits the model's input \"%.*s\"", dtype_name(s.inputs[0]->t.dtype),
                     shape_text(&s.inputs[0]->t.shape, shape, sizeof shape), (int)utf8_fit(specs[i].name, 60), specs[i].name);
            add(r, "ok", "dataset.input", specs[i].name, utf8_mend(text));
        }
        all = all && ok;
    }
    return all;
}

/* ---- what runs, but badly ---- */

struct extent { double lo, hi; };

static struct extent extent_of(const struct array *a)
{
    enum { PIECE = 1 << 18 };
    const float *x = a->t.data;
    struct extent r = { INFINITY, -INFINITY };
    int64_t n = shape_elements(&a->t.shape);
    for (int64_t i = 0; i < n; i++) {
        r.lo = x[i] < r.lo ? x[i] : r.lo;
        r.hi = x[i] > r.hi ? x[i] : r.hi;
        if (i % PIECE == PIECE - 1)
            array_rest(a, i + 1 - PIECE, PIECE);
    }
    return r;
}

static void check_range(struct report *r, const struct array *a)
{
    static const double raw = 20;           /* normalised pixels and embeddings stay below; raw pixels do not */
    if (a->t.dtype != DT_F32)
        return;
    struct extent x = extent_of(a);
    if (x.lo == x.hi)
        warn(r, "dataset.constant", a->name, "every value is %g, so no range can be told; give real samples", x.lo);
    else if (x.lo >= 0 && x.hi > raw && x.hi <= 255)
        warn(r, "dataset.raw_pixels", a->name, "the values lie in %g..%g like raw pixels; apply the model's preprocessing (scale, mean, std) first", x.lo, x.hi);
}

/* Columns of the model's only output [N, classes] with a known number of classes; -1: it is no classifier of that kind. */
static int64_t classes_of(const struct graph *g)
{
    const struct shape *s = &g->values[g->outputs[0]].shape;
    return g->n_outputs == 1 && s->rank == 2 && s->dim[1] > 1 ? s->dim[1] : -1;
}

static void check_labels(struct report *r, const struct samples *s, const struct graph *g)
{
    int64_t classes = classes_of(g);
    if (!s->labels) {
        if (classes > 0)
            warn(r, "dataset.no_labels", NULL, "there are no labels, so accuracy cannot be told; add an int64 array \"labels\" to an evaluation set");
        return;
    }
    for (int64_t i = 0; i < s->count; i++)
        if (s->labels[i] < 0 || (classes > 0 && s->labels[i] >= classes)) {
            char text[200];
            snprintf(text, sizeof text, "label %" PRId64 " of sample %" PRId64 " is none of the model's %" PRId64 " classes; number them from 0",
                     s->labels[i], i, classes);
            add(r, "error", "dataset.label_range", "labels", text);
            return;
        }
}

static void check_whole(struct report *r, struct loaded_data *d, const struct input_spec *specs, const struct graph *g)
{
    struct err why = { 0 };
    if (!dataset_samples(d->mem, &d->set, specs, (size_t)g->n_inputs, &d->samples, &why)
        || !samples_padding(d->mem, &d->set, specs, (size_t)g->n_inputs, &d->samples, &why)) {
        add(r, "error", err_slug(why.code), why.where, why.text);
        return;
    }
    if (d->samples.count < FEW_SAMPLES)
        warn(r, "dataset.too_few_samples", NULL, "%lld samples give unreliable ranges; use %d or more", (long long)d->samples.count, FEW_SAMPLES);
    for (size_t i = 0; i < d->samples.n_inputs; i++)
        check_range(r, d->samples.inputs[i]);
    check_labels(r, &d->samples, g);
}

json_t *validation_json(const struct loaded_model *m, struct loaded_data *d, struct err *e)
{
    struct input_spec *specs;
    struct report r = { json_array(), true, &d->set };
    if (!run_input_specs(m->g, d->mem, &specs, e)) {
        json_decref(r.checks);
        return NULL;
    }
    if (check_inputs(&r, d, specs, (size_t)m->g->n_inputs))
        check_whole(&r, d, specs, m->g);
    return json_pack("{s:b, s:o, s:o}", "ok", r.ok, "samples", d->samples.count ? json_integer(d->samples.count) : json_null(), "checks", r.checks);
}
