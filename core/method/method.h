/* method.h - the methods a recipe can name, in one table. */
#ifndef CORE_METHOD_METHOD_H
#define CORE_METHOD_METHOD_H

#include "core/sweep/method.h"

const struct method *method_find(enum recipe_method m);

/* One a file. */
extern const struct method method_minmax, method_percentile, method_repquant, method_repq_vit, method_smoothquant, method_zeroquant;

/* ---- what several methods do ---- */

bool method_never(const struct recipe *r);
/* Does the recipe ask for weights or biases that only moments tell? */
bool method_rebuilds(const struct recipe *r);
bool method_no_rows(const struct recipe *r, enum site_kind kind);
/* One quantizer for the tensor, a factor for each channel, and an offset where it can `shift`; signed codes only if it can. */
void method_take_fold(const struct channel_fold *f, int bits, bool shift, bool symmetric, struct site_choice *ret);
/* Logarithmic levels for attention probabilities. */
bool method_levels(const struct recipe *r, const struct site_view *v, struct site_choice *ret, struct err *e);
/* One range for the tensor by the recipe's observer. */
bool method_site(const struct recipe *r, const struct site_view *v, struct pool *pool, struct arena *mem, struct site_choice *ret,
                 struct err *e);
/*
 * The layer's bias without what the offsets of its input's channels add; w [n, k]: its weights, not rounded, for values of the
 * scaled input in units of `unit`.  method_fold_bias() sets ret->bias where there are offsets.
 */
double method_folded_bias(const struct weight_view *v, const float *w, double unit, size_t channel);
bool method_fold_bias(const struct weight_view *v, const float *w, double unit, struct arena *mem, struct qweight *ret, struct err *e);
/* Round to nearest at the recipe's granularity, divided by the factors of the input's channels. */
bool method_round_weights(const struct recipe *r, const struct weight_view *v, struct pool *pool, struct arena *mem,
                          struct qweight *ret, struct err *e);

/* Weights rebuilt on moments as the recipe says, or rounded to nearest where none were gathered; biases corrected. */
bool method_rebuild_weights(const struct recipe *r, const struct weight_view *v, struct pool *pool, struct arena *mem,
                            struct qweight *ret, struct err *e);

#endif
