#include "core/graph/poly.h"

#include <string.h>

struct poly poly_number(int64_t c)
{
    struct poly p = { 0 };
    if (c) {
        p.n = 1;
        p.t[0].coef = c;
    }
    return p;
}

struct poly poly_atom(int atom)
{
    struct poly p = { .n = 1 };
    p.t[0] = (struct term){ .coef = 1, .n = 1, .atom = { atom } };
    return p;
}

/* > 0 if a comes before b.  By degree, then by atoms: an order that multiplication keeps, as division needs. */
static int compare(const struct term *a, const struct term *b)
{
    if (a->n != b->n)
        return a->n - b->n;
    for (int i = 0; i < a->n; i++)
        if (a->atom[i] != b->atom[i])
            return a->atom[i] < b->atom[i] ? 1 : -1;
    return 0;
}

bool poly_add(const struct poly *a, const struct poly *b, int sign, struct poly *ret)
{
    struct poly sum = { 0 };
    for (int i = 0, j = 0; i < a->n || j < b->n;) {
        int order = i == a->n ? -1 : j == b->n ? 1 : compare(&a->t[i], &b->t[j]);
        struct term t = order >= 0 ? a->t[i] : b->t[j];
        int64_t other = 0;
        if (order <= 0 && __builtin_mul_overflow(b->t[j].coef, sign, &other))
            return false;
        if (__builtin_add_overflow(order >= 0 ? t.coef : 0, other, &t.coef))
            return false;
        i += order >= 0;
        j += order <= 0;
        if (t.coef == 0)
            continue;
        if (sum.n == POLY_TERMS)
            return false;
        sum.t[sum.n++] = t;
    }
    *ret = sum;
    return true;
}

static bool term_mul(const struct term *a, const struct term *b, struct term *ret)
{
    struct term t = { .n = a->n + b->n };
    if (t.n > POLY_DEGREE || __builtin_mul_overflow(a->coef, b->coef, &t.coef))
        return false;
    for (int i = 0, j = 0; i + j < t.n;) {
        bool from_a = j == b->n || (i < a->n && a->atom[i] <= b->atom[j]);
        t.atom[i + j] = from_a ? a->atom[i] : b->atom[j];
        i += from_a;
        j += !from_a;
    }
    *ret = t;
    return true;
}

static bool times_term(const struct poly *a, const struct term *b, struct poly *ret)
{
    struct poly p = { .n = a->n };
    for (int i = 0; i < a->n; i++)
        if (!term_mul(&a->t[i], b, &p.t[i]))
            return false;
    *ret = p;
    return true;
}

bool poly_mul(const struct poly *a, const struct poly *b, struct poly *ret)
{
    struct poly sum = { 0 }, part;
    for (int i = 0; i < b->n; i++)
        if (!times_term(a, &b->t[i], &part) || !poly_add(&sum, &part, 1, &sum))
            return false;
    *ret = sum;
    return true;
}

static bool term_div(const struct term *a, const struct term *b, struct term *ret)
{
    if ((b->coef == -1 && a->coef == INT64_MIN) || a->coef % b->coef)
        return false;
    struct term t = { .coef = a->coef / b->coef };
    int j = 0;
    for (int i = 0; i < a->n; i++) {
        if (j < b->n && a->atom[i] == b->atom[j])
            j++;
        else
            t.atom[t.n++] = a->atom[i];
    }
    if (j < b->n)
        return false;
    *ret = t;
    return true;
}

bool poly_div(const struct poly *a, const struct poly *b, struct poly *ret)
{
    struct poly quotient = { 0 }, rest = *a;
    if (b->n == 0)
        return false;
    /* Each round cancels the leading term of the rest, so the leading terms fall and this ends;
     * the bound keeps a quotient with many terms from taking long. */
    for (int round = 0; rest.n; round++) {
        struct poly step = { .n = 1 }, back;
        if (round == POLY_TERMS || !term_div(&rest.t[0], &b->t[0], &step.t[0]) ||
            !poly_add(&quotient, &step, 1, &quotient) || !times_term(b, &step.t[0], &back) ||
            !poly_add(&rest, &back, -1, &rest))
            return false;
    }
    *ret = quotient;
    return true;
}
