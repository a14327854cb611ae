#include "core/method/method.h"

static const struct method *const methods[] = {
    [RECIPE_METHOD_MINMAX] = &method_minmax,
    [RECIPE_METHOD_PERCENTILE] = &method_percentile,
    [RECIPE_METHOD_REPQUANT] = &method_repquant,
};

const struct method *method_find(enum recipe_method m) { return methods[m]; }

bool method_never(const struct recipe *r)
{
    (void)r;
    return false;
}

bool method_no_rows(const struct recipe *r, enum site_kind kind)
{
    (void)r;
    (void)kind;
    return false;
}

/* A percentile p keeps [quantile(1 - p/100), quantile(p/100)] of what the site showed over all calibration samples. */
static bool find_range(const struct recipe *r, const struct site_view *v, float *ret_lo, float *ret_hi, struct err *e)
{
    double p = r->activations.percentile / 100;
    switch (r->activations.observer) {
    case RECIPE_OBSERVER_PERCENTILE:
        *ret_lo = observer_quantile(v->o, 1 - p);
        *ret_hi = observer_quantile(v->o, p);
        return true;
    case RECIPE_OBSERVER_MSE:
        return observer_search_range(v->o, v->bits, r->activations.symmetric, ret_lo, ret_hi, e);
    default:
        *ret_lo = v->o->range.lo;
        *ret_hi = v->o->range.hi;
        return true;
    }
}

bool method_site(const struct recipe *r, const struct site_view *v, struct pool *pool, struct arena *mem, struct site_choice *ret,
                 struct err *e)
{
    float lo = 0, hi = 0;
    (void)pool;
    (void)mem;
    if (v->o->count && !find_range(r, v, &lo, &hi, e))
        return false;
    *ret = (struct site_choice){ .a = quantizer_from_range(lo, hi, v->bits, r->activations.symmetric) };
    return true;
}

bool method_round_weights(const struct recipe *r, const struct weight_view *v, struct pool *pool, struct arena *mem,
                          struct qweight *ret, struct err *e)
{
    (void)pool;
    return qweight_round(v->g, v->l, v->bits, r->weights.granularity == RECIPE_PER_CHANNEL, mem, ret, e);
}
