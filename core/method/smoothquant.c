/*
 * smoothquant.c - SmoothQuant (Xiao et al., arXiv 2211.10438): factors per channel move the spread of activations into weights.
 *
 *   norms          the norm gives x / s; in a post-norm block, where a residual reads it too, a Mul on the linears' branch does
 *   other inputs   the linear that makes the values does (v before o, up before down, fc1 before a Relu and fc2), where one can
 *                  be found; else a Mul
 *   alpha          as the recipe says, or of each site by the error of its readers' outputs with the quantizers they will have
 *
 * With dynamic activations (the paper's O1: a range for each token) norms alone take up factors: a Mul behind the division of rows
 * would undo it.  Everything else is what minmax does.  Scales per channel as such would stand inside the integer sum; these do not.
 */
#include "core/method/method.h"

#include "core/quant/smooth.h"

/* A Mul has to be worth its time: the error it leaves, of that without it. */
static const double mul_worth = 0.9;
/*
 * Channels that were quiet in calibration are not always quiet, of GELU and its like and where there were fewer rows than this
 * (class tokens).  A search that took them at their word would fit the calibration set: it takes this quantile of the
 * channels' widths for theirs, so that only outliers have factors.  Where a linear takes them up (up before down, which its channels
 * differ in on all texts) a milder one: 98 % would leave hardly anything to even out (bench/stories_numpy.py).
 */
enum { FEW_ROWS = 1024 };
static const double quiet = 0.98, quiet_in_linears = 0.75;

static bool smooths(enum site_kind kind) { return kind == SITE_NORM || kind == SITE_ACTIVATION || kind == SITE_LINEAR || kind == SITE_ROWS; }

static bool wants_rows(const struct recipe *r, enum site_kind kind)
{
    (void)r;
    return smooths(kind);
}

static bool find_factors(const struct recipe *r, const struct site_view *v, struct pool *pool, struct arena *mem, float *ret_s,
                         double *ret_alpha, struct err *e)
{
    struct ranges full = { v->o->lo, v->o->hi };
    struct smooth_task t = { .rows = &v->rows, .full = &full, .group = v->group, .groups = v->groups, .w = v->w, .readers = v->readers,
                             .n_readers = v->n_readers, .asymmetric = !r->weights.symmetric, .bits = v->bits,
                             .symmetric = r->activations.symmetric, .per_row = v->kind == SITE_ROWS };
    *ret_alpha = r->smoothing.alpha;
    if (r->smoothing.alpha != RECIPE_ALPHA_AUTO)
        return smooth_factors(&t, r->smoothing.alpha, mem, ret_s, e);
    t.floor = v->all_rows < FEW_ROWS ? quiet : v->kind != SITE_ACTIVATION ? 0 : v->group ? quiet_in_linears : quiet;
    return smooth_search(&t, v->free_factors ? 1 : mul_worth, pool, mem, ret_s, ret_alpha, e);
}

static bool site(const struct recipe *r, const struct site_view *v, struct pool *pool, struct arena *mem, struct site_choice *ret,
                 struct err *e)
{
    size_t channels = v->rows.channels;
    double alpha;
    float lo, hi;
    if (!smooths(v->kind) || v->rows.n == 0 || !(v->free_factors || (r->smoothing.multiply && v->kind != SITE_ROWS)))
        return method_site(r, v, pool, mem, ret, e);
    float *s = arena_array(mem, channels, sizeof *s, e);
    if (!s || !find_factors(r, v, pool, mem, s, &alpha, e))
        return false;
    if (alpha == SMOOTH_NONE)
        return method_site(r, v, pool, mem, ret, e);
    struct ranges full = { v->o->lo, v->o->hi };
    smooth_range(&full, s, channels, &lo, &hi);
    for (size_t c = 0; c < channels; c++)
        s[c] = 1 / s[c];
    *ret = (struct site_choice){ .a = quantizer_from_range(lo, hi, v->bits, r->activations.symmetric), .mul = s, .exponent = alpha };
    return true;
}

const struct method method_smoothquant = {
    "smoothquant", .sample_rows = 512, .sample_largest = 32, .absorbs = true, .wants_rows = wants_rows, .wants_moments = method_rebuilds,
    .site = site, .weights = method_rebuild_weights,
};
