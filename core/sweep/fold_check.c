#include "core/sweep/fold_check.h"

#include "core/kernel/clones.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

struct worst { double off, largest; };

/* Inputs as columns of FOLD_ROWS rows, so that the rows of one are multiplied at once; rows that there are not are 0. */
struct columns {
    double *mul, *x, *scaled;                  /* [k], [k, FOLD_ROWS] twice; the last without its shift */
};

static bool columns_init(struct columns *t, const struct site_choice *q, const float *x, const float *scaled, size_t rows, size_t k)
{
    t->mul = calloc(k * (2 * FOLD_ROWS + 1), sizeof *t->mul);
    if (!t->mul)
        return false;
    t->x = t->mul + k;
    t->scaled = t->x + k * FOLD_ROWS;
    for (size_t i = 0; i < k; i++) {
        t->mul[i] = (double)q->mul[i];
        for (size_t r = 0; r < rows; r++) {
            t->x[i * FOLD_ROWS + r] = (double)x[r * k + i];
            t->scaled[i * FOLD_ROWS + r] = (double)scaled[r * k + i] - (q->shift ? (double)q->shift[i] : 0);
        }
    }
    return true;
}

/* Output channel w[k] on all rows, in double: rounding here must not count. */
KERNEL_CLONES
static void compare_channel(const float *w, double bias, const struct columns *t, size_t rows, size_t k, struct worst *ret)
{
    double own[FOLD_ROWS] = { 0 }, now[FOLD_ROWS] = { 0 };
    for (size_t i = 0; i < k; i++) {
        double at = (double)w[i], v = at / t->mul[i];
        for (size_t r = 0; r < FOLD_ROWS; r++) {
            own[r] += at * t->x[i * FOLD_ROWS + r];
            now[r] += v * t->scaled[i * FOLD_ROWS + r];
        }
    }
    for (size_t r = 0; r < rows; r++) {
        ret->off = fmax(ret->off, fabs(own[r] - now[r]));
        ret->largest = fmax(ret->largest, fabs(own[r] + bias));
    }
}

static bool check_layer(const struct graph *g, const struct sweep_layer *l, const struct site_choice *q, const float *x,
                        const float *scaled, size_t rows, struct err *e)
{
    size_t k = (size_t)l->l->k, n = (size_t)l->l->n;
    const float *bias = layer_bias(g, l->l);
    struct worst worst = { 0, 0 };
    struct columns columns;
    float *w = malloc(n * k * sizeof *w);
    bool held = columns_init(&columns, q, x, scaled, rows, k);
    bool ok = held && w ? weight_rows(g, l->l, w, e) : err_set(e, ERR_MEMORY, l->l->name, "no memory to check a fold");
    for (size_t c = 0; ok && c < n; c++)
        compare_channel(w + c * k, bias ? (double)bias[c] : 0, &columns, rows, k, &worst);
    free(w);
    free(columns.mul);
    if (ok && !(worst.off <= FOLD_TOLERANCE * worst.largest))
        return err_set(e, ERR_BUG, l->l->name, "folding scales into the norm before it changed its float output by %.2g of %.2g; please report this model",
                       worst.off, worst.largest);
    return ok;
}

static double clamped(double code, const struct affine *a) { return fmin(fmax(code, a->qmin - a->zero), a->qmax - a->zero); }

struct off { size_t n, by_one, by_more; };

/* Of the terms that a norm adds up in float32 so much may be lost.  A channel that does not vary has steps as small as that. */
static const double float_loss = 4 * FLT_EPSILON;

/* How far a code is from those that x +- loss, in steps, has. */
static double code_off(double code, double x, double loss, double zero, const struct affine *a)
{
    double least = clamped(rint(x - loss) + zero, a), most = clamped(rint(x + loss) + zero, a);
    return fmax(0, fmax(least - code, code - most));
}

/* Codes of one channel, counted from the code of zero.  A class token is the same in every sample: one value counts once. */
static void compare_codes(const struct site_choice *q, size_t c, double beta, const float *x, const float *scaled, size_t rows, size_t k,
                          struct off *ret)
{
    double step = (double)q->a.scale, mul = (double)q->mul[c], zero = q->shift ? (double)q->shift[c] / step : 0;
    if (fabs(zero - rint(zero)) > 2 * FLT_EPSILON * fmax(fabs(zero), 1))
        return;
    float last = NAN;
    for (size_t r = 0; r < rows; r++) {
        double own = (double)x[r * k + c] * mul / step, loss = float_loss * (fabs(own) + 2 * fabs(beta) * mul / step + fabs(zero));
        double off = code_off(clamped(rint((double)scaled[r * k + c] / step), &q->a), own, loss, rint(zero), &q->a);
        ret->by_one += off == 1 && x[r * k + c] != last;
        last = off == 1 ? x[r * k + c] : last;
        ret->by_more += off > 1;
    }
    ret->n += rows;
}

/* beta: [k] what the norm adds, or NULL. */
static bool check_codes(const struct site *s, const float *beta, const float *x, const float *scaled, size_t rows, size_t k, struct err *e)
{
    struct off off = { 0 };
    for (size_t c = 0; c < k; c++)
        compare_codes(&s->q, c, beta ? (double)beta[c] : 0, x, scaled, rows, k, &off);
    /* Of a few codes a share says nothing yet. */
    enum { FEW = 8 };
    if (off.by_more || (double)off.by_one > FOLD_CODES * (double)off.n + FEW)
        return err_set(e, ERR_BUG, s->layer, "folding scales into the norm before it changed %zu of %zu codes; please report this model",
                       off.by_one + off.by_more, off.n);
    return true;
}

bool fold_check(const struct sweep_task *t, const struct sweep *s, int site, const float *x, const float *scaled, size_t rows,
                struct err *e)
{
    int beta = t->roles->norms[s->sites[site].norm].beta;
    if (!check_codes(&s->sites[site], beta >= 0 ? t->g->values[beta].data : NULL, x, scaled, rows, sweep_channels(s, site), e))
        return false;
    for (int i = 0; i < s->n_layers; i++)
        if (s->layers[i].x == site && s->layers[i].quantize
            && !check_layer(t->g, &s->layers[i], &s->sites[site].q, x, scaled, rows < FOLD_ROWS ? rows : FOLD_ROWS, e))
            return false;
    return true;
}
