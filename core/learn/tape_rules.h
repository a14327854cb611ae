/* tape_rules.h - the closed list of operators with a derivative, by family; tape_rules.c says which serves which. */
#ifndef CORE_LEARN_TAPE_RULES_H
#define CORE_LEARN_TAPE_RULES_H

#include "core/learn/tape_internal.h"

tape_back tape_back_add, tape_back_sub, tape_back_mul, tape_back_div, tape_back_pow, tape_back_where;           /* tape_elem.c */
tape_back tape_back_neg, tape_back_same, tape_back_sqrt, tape_back_reciprocal, tape_back_exp, tape_back_erf, tape_back_tanh;
tape_back tape_back_sigmoid, tape_back_relu, tape_back_gelu, tape_back_swish;
tape_back tape_back_softmax, tape_back_layernorm, tape_back_rmsnorm, tape_back_mean, tape_back_sum;             /* tape_rows.c */
tape_back tape_back_matmul, tape_back_gemm;                                                                     /* tape_matrix.c */

bool tape_fits_pow(const struct graph *g, const struct node *n);
bool tape_fits_cast(const struct graph *g, const struct node *n);
bool tape_fits_softmax(const struct graph *g, const struct node *n);
bool tape_fits_norm(const struct graph *g, const struct node *n);
bool tape_fits_reduce(const struct graph *g, const struct node *n);
bool tape_fits_matmul(const struct graph *g, const struct node *n);
bool tape_fits_gemm(const struct graph *g, const struct node *n);
bool tape_fits_gather(const struct graph *g, const struct node *n);
bool tape_fits_rest_const(const struct graph *g, const struct node *n);

#endif
