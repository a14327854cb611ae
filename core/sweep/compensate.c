#include "core/sweep/compensate.h"

#include "core/kernel/kernel.h"
#include "core/quant/low_rank.h"

#include <math.h>

/* What rounding changed, for the layer's scaled input: [k, n]. */
static float *error_of(const struct weight_view *v, const struct qweight *w, struct arena *mem, struct err *e)
{
    float *rows = arena_array(mem, w->n * w->k, sizeof *rows, e), *off = arena_array(mem, w->k * w->n, sizeof *off, e);
    if (!rows || !off || !weight_rows(v->g, v->l, rows, e))
        return NULL;
    for (size_t c = 0; c < w->n; c++)
        for (size_t k = 0; k < w->k; k++) {
            size_t at = qweight_scale_at(w, c, k);
            int code = w->codes[qweight_at(v->l, c, k)] - (w->zero ? w->zero[at] : 0);
            off[k * w->n + c] = rows[c * w->k + k] / (v->mul ? v->mul[k] : 1) - (float)code * w->scale[at];
        }
    return off;
}

/* How loud inputs are: roots of their mean squares, in codes. */
static double *loudness(const struct weight_view *v, struct arena *mem, struct err *e)
{
    size_t k = (size_t)v->l->k;
    double *loud = arena_array(mem, k, sizeof *loud, e);
    for (size_t i = 0; loud && i < k; i++)
        loud[i] = v->rows > 0 ? sqrt(v->h[i * k + i] + v->mean[i] * v->mean[i]) : 1;
    return loud;
}

/* A bias that was corrected for the codes alone would count twice what the matrices give back on average. */
static void correct_bias(const struct recipe *r, const struct weight_view *v, const float *given, struct qweight *w)
{
    if (!w->bias || !r->reconstruction.bias_correction || v->rows == 0)
        return;
    for (size_t c = 0; c < w->n; c++) {
        double sum = 0;
        for (size_t k = 0; k < w->k; k++)
            sum += v->mean[k] * (double)v->a.scale * (double)given[k * w->n + c];
        w->bias[c] = (float)((double)w->bias[c] - sum);
    }
}

bool compensate(const struct recipe *r, const struct weight_view *v, struct arena *mem, struct qweight *w, struct err *e)
{
    size_t rank = (size_t)r->compensation.rank, most = w->k < w->n ? w->k : w->n;
    if (rank == 0 || v->l->kind != LAYER_LINEAR)
        return true;
    w->rank = rank < most ? rank : most;
    w->low_u = arena_array(mem, w->k * w->rank, sizeof *w->low_u, e);
    w->low_v = arena_array(mem, w->rank * w->n, sizeof *w->low_v, e);
    float *off = error_of(v, w, mem, e), *given = arena_array(mem, w->k * w->n, sizeof *given, e);
    double *loud = loudness(v, mem, e);
    if (!w->low_u || !w->low_v || !off || !given || !loud || !low_rank(off, w->k, w->n, loud, w->rank, mem, w->low_u, w->low_v, e))
        return false;
    gemm(false, false, w->k, w->n, w->rank, w->low_u, w->rank, w->low_v, w->n, false, given, w->n);
    w->error = 0;
    for (size_t i = 0; i < w->k * w->n; i++) {
        double left = (double)off[i] - (double)given[i];
        w->error += left * left;
    }
    correct_bias(r, v, given, w);
    return true;
}
