/*
 * symbols.c - the table of interned expressions.
 *
 * Every symbol stores bounds when it is made, from the bounds of its parts, so
 * comparing never walks a deep expression: a hostile chain of a hundred thousand
 * minima costs no stack.
 */
#include "core/graph/symbols.h"

#include "core/base/hash.h"
#include "core/base/tensor.h"
#include "core/graph/poly.h"

#include <stdio.h>
#include <string.h>

enum kind { S_NAMED, S_UNKNOWN, S_POLY, S_DIV, S_MIN, S_MAX };

/* Bounds outside this are "none". */
#define FAR ((int64_t)1 << 62)

struct symbol {
    enum kind kind;
    const char *name;              /* S_NAMED: its identity; else made from the parts */
    struct num a, b;               /* operands of S_DIV, S_MIN, S_MAX; a.n: the serial number of S_UNKNOWN */
    int64_t lo, hi;                /* every value lies within; -FAR and FAR: unbounded */
    struct poly p;                 /* what it is in sums: itself as an atom, or the polynomial */
};

struct symbols {
    struct arena *mem;
    struct symbol **list;
    const char **names;            /* list[i]->name */
    int n, room;
    int *table, table_size;        /* open addressing; 0: free, else 1 + number */
    int unknowns;
    bool failed;
};

struct symbols *symbols_new(struct arena *mem, struct err *e)
{
    struct symbols *s = arena_alloc(mem, sizeof *s, e);
    if (s)
        s->mem = mem;
    return s;
}

int symbols_count(const struct symbols *s) { return s->n; }
bool symbols_ok(const struct symbols *s) { return !s->failed; }

const char **symbols_names(const struct symbols *s) { return s->names; }

/* ---- bounds ---- */

static int64_t near(__int128 v) { return v > FAR ? FAR : v < -FAR ? -FAR : (int64_t)v; }

static int64_t low(const struct symbols *s, struct num a) { return a.sym ? s->list[a.sym - 1]->lo : near(a.n); }
static int64_t high(const struct symbols *s, struct num a) { return a.sym ? s->list[a.sym - 1]->hi : near(a.n); }

/* Bounds of a product of atoms; exact only for atoms that are never negative, which is all we need. */
static void term_bounds(const struct symbols *s, const struct term *t, int64_t *lo, int64_t *hi)
{
    *lo = *hi = 1;
    for (int i = 0; i < t->n; i++) {
        const struct symbol *a = s->list[t->atom[i]];
        if (a->lo < 0) {
            *lo = -FAR;
            *hi = FAR;
            return;
        }
        *lo = near((__int128)*lo * a->lo);
        *hi = near((__int128)*hi * a->hi);
    }
}

static void poly_bounds(const struct symbols *s, const struct poly *p, int64_t *ret_lo, int64_t *ret_hi)
{
    __int128 lo = 0, hi = 0;
    bool lo_none = false, hi_none = false;
    for (int i = 0; i < p->n; i++) {
        int64_t a, b, coef = p->t[i].coef;
        term_bounds(s, &p->t[i], &a, &b);
        lo_none |= coef > 0 ? a == -FAR : b == FAR;
        hi_none |= coef > 0 ? b == FAR : a == -FAR;
        lo += (__int128)coef * (coef > 0 ? a : b);
        hi += (__int128)coef * (coef > 0 ? b : a);
    }
    *ret_lo = lo_none ? -FAR : near(lo);
    *ret_hi = hi_none ? FAR : near(hi);
}

static void bounds(const struct symbols *s, struct symbol *y)
{
    if (y->kind == S_NAMED || y->kind == S_UNKNOWN) {
        y->lo = y->kind == S_NAMED;
        y->hi = TENSOR_MAX_DIM;
    } else if (y->kind == S_POLY) {
        poly_bounds(s, &y->p, &y->lo, &y->hi);
    } else {
        int64_t al = low(s, y->a), ah = high(s, y->a), bl = low(s, y->b), bh = high(s, y->b);
        if (y->kind == S_MIN) {
            y->lo = al < bl ? al : bl;
            y->hi = ah < bh ? ah : bh;
        } else if (y->kind == S_MAX) {
            y->lo = al > bl ? al : bl;
            y->hi = ah > bh ? ah : bh;
        } else {
            bool positive = al >= 0 && bl >= 1;
            y->lo = positive ? (bh == FAR ? 0 : al / bh) : -FAR;
            y->hi = positive && ah < FAR ? ah / bl : FAR;
        }
    }
}

/* ---- names ---- */

enum { NAME_SIZE = 128 };      /* an expression that does not fit is shown as "expr12" */

static const char *text(const struct symbols *s, struct num a, char *buf, size_t size)
{
    if (a.sym)
        return s->list[a.sym - 1]->name;
    snprintf(buf, size, "%lld", (long long)a.n);
    return buf;
}

static bool has(const char *name, const char *any) { return strpbrk(name, any) != NULL; }

static size_t append(char *buf, size_t at, const char *what)
{
    size_t n = strlen(what);
    if (at + n < NAME_SIZE)
        memcpy(buf + at, what, n + 1);
    return at + n < NAME_SIZE ? at + n : NAME_SIZE;
}

static size_t append_term(const struct symbols *s, const struct term *t, bool first, char *buf, size_t at)
{
    char number[24];
    bool negative = t->coef < 0;
    if (negative || !first)
        at = append(buf, at, negative ? "-" : "+");
    for (int i = 0; i < t->n; i++) {
        const struct symbol *a = s->list[t->atom[i]];
        bool quote = a->kind == S_DIV && (t->n > 1 || t->coef != 1);
        at = append(buf, at, i ? "*" : "");
        at = append(buf, at, quote ? "(" : "");
        at = append(buf, at, a->name);
        at = append(buf, at, quote ? ")" : "");
    }
    uint64_t size = negative ? 0 - (uint64_t)t->coef : (uint64_t)t->coef;
    if (size == 1 && t->n)
        return at;
    snprintf(number, sizeof number, "%s%llu", t->n ? "*" : "", (unsigned long long)size);
    return append(buf, at, number);
}

static size_t append_operand(const struct symbols *s, struct num a, bool quote, char *buf, size_t at)
{
    char number[24];
    const char *t = text(s, a, number, sizeof number);
    quote = quote && a.sym && has(t, "+-*/");
    at = append(buf, at, quote ? "(" : "");
    at = append(buf, at, t);
    return append(buf, at, quote ? ")" : "");
}

static const char *name_of(struct symbols *s, const struct symbol *y)
{
    char buf[NAME_SIZE] = "";
    size_t at = 0;
    if (y->kind == S_UNKNOWN) {
        at = (size_t)snprintf(buf, sizeof buf, "?%lld", (long long)y->a.n);
    } else if (y->kind == S_POLY) {
        for (int i = 0; i < y->p.n; i++)
            at = append_term(s, &y->p.t[i], i == 0, buf, at);
    } else {
        bool div = y->kind == S_DIV;
        at = append(buf, at, div ? "" : y->kind == S_MIN ? "min(" : "max(");
        at = append_operand(s, y->a, div, buf, at);
        at = append(buf, at, div ? "/" : ",");
        at = append_operand(s, y->b, div, buf, at);
        at = append(buf, at, div ? "" : ")");
    }
    if (at >= NAME_SIZE)
        at = (size_t)snprintf(buf, sizeof buf, "expr%d", s->n);
    return arena_strndup(s->mem, buf, at, NULL);
}

/* ---- interning ---- */

static uint64_t hash_of(const struct symbol *y)
{
    uint64_t h = hash_mix(y->kind, (uint64_t)y->a.n);
    h = hash_mix(h, (uint64_t)y->a.sym);
    h = hash_mix(h, (uint64_t)y->b.n);
    h = hash_mix(h, (uint64_t)y->b.sym);
    for (const char *c = y->kind == S_NAMED ? y->name : ""; *c; c++)
        h = hash_mix(h, (unsigned char)*c);
    for (int i = 0; y->kind == S_POLY && i < y->p.n; i++) {
        h = hash_mix(h, (uint64_t)y->p.t[i].coef);
        for (int j = 0; j < y->p.t[i].n; j++)
            h = hash_mix(h, (uint64_t)y->p.t[i].atom[j]);
    }
    return h;
}

static bool same_poly(const struct poly *a, const struct poly *b)
{
    if (a->n != b->n)
        return false;
    for (int i = 0; i < a->n; i++)
        if (a->t[i].coef != b->t[i].coef || a->t[i].n != b->t[i].n ||
            memcmp(a->t[i].atom, b->t[i].atom, sizeof a->t[i].atom) != 0)
            return false;
    return true;
}

static bool same(const struct symbol *a, const struct symbol *b)
{
    if (a->kind != b->kind)
        return false;
    if (a->kind == S_NAMED)
        return strcmp(a->name, b->name) == 0;
    if (a->kind == S_POLY)
        return same_poly(&a->p, &b->p);
    return num_equal(a->a, b->a) && num_equal(a->b, b->b);
}

/* The slot of y or a free one. */
static int *slot_of(const struct symbols *s, const struct symbol *y)
{
    uint64_t mask = (uint64_t)s->table_size - 1;
    for (uint64_t i = hash_of(y) & mask;; i = (i + 1) & mask)
        if (s->table[i] == 0 || same(s->list[s->table[i] - 1], y))
            return &s->table[i];
}

static bool grow(struct symbols *s)
{
    int room = s->room ? s->room * 2 : 64;
    struct symbol **list = arena_array(s->mem, (uint64_t)room, sizeof *list, NULL);
    const char **names = arena_array(s->mem, (uint64_t)room, sizeof *names, NULL);
    int *table = arena_array(s->mem, (uint64_t)room * 2, sizeof *table, NULL);
    if (!list || !names || !table)
        return false;
    for (int i = 0; i < s->n; i++) {
        list[i] = s->list[i];
        names[i] = s->names[i];
    }
    s->list = list;
    s->names = names;
    s->table = table;
    s->room = room;
    s->table_size = room * 2;
    for (int i = 0; i < s->n; i++)
        *slot_of(s, s->list[i]) = i + 1;
    return true;
}

static struct symbol *add(struct symbols *s, const struct symbol *key)
{
    struct symbol *y = arena_alloc(s->mem, sizeof *y, NULL);
    if (!y)
        return NULL;
    *y = *key;
    y->name = key->kind == S_NAMED ? arena_strndup(s->mem, key->name, strlen(key->name), NULL) : name_of(s, key);
    if (!y->name)
        return NULL;
    if (y->kind != S_POLY)
        y->p = poly_atom(s->n);
    bounds(s, y);
    s->names[s->n] = y->name;
    s->list[s->n++] = y;
    return y;
}

static struct num intern(struct symbols *s, const struct symbol *key)
{
    enum { MOST = 1 << 24 };
    if (s->failed || s->n == MOST || (s->n == s->room && !grow(s)))
        return s->failed = true, NUM_UNKNOWN;
    int *slot = slot_of(s, key);
    if (*slot == 0) {
        if (!add(s, key))
            return s->failed = true, NUM_UNKNOWN;
        *slot = s->n;
    }
    return (struct num){ .sym = *slot };
}

struct num symbol_named(struct symbols *s, const char *name)
{
    return intern(s, &(struct symbol){ .kind = S_NAMED, .name = name });
}

struct num symbol_unknown(struct symbols *s)
{
    return intern(s, &(struct symbol){ .kind = S_UNKNOWN, .a = NUM(s->unknowns++) });
}

/* ---- arithmetic ---- */

static struct poly to_poly(const struct symbols *s, struct num a)
{
    return a.sym ? s->list[a.sym - 1]->p : poly_number(a.n);
}

static struct num from_poly(struct symbols *s, const struct poly *p)
{
    if (p->n == 0)
        return NUM(0);
    if (p->n == 1 && p->t[0].n == 0)
        return NUM(p->t[0].coef);
    if (p->n == 1 && p->t[0].n == 1 && p->t[0].coef == 1)
        return (struct num){ .sym = p->t[0].atom[0] + 1 };
    return intern(s, &(struct symbol){ .kind = S_POLY, .p = *p });
}

/* True, with the result, if an operand is unknown or an overflow. */
static bool undefined(struct num a, struct num b, struct num *ret)
{
    int worst = a.sym < b.sym ? a.sym : b.sym;
    *ret = (struct num){ .sym = worst };
    return worst < 0;
}

struct num num_add(struct symbols *s, struct num a, struct num b)
{
    struct num r;
    if (undefined(a, b, &r))
        return r;
    if (!a.sym && !b.sym)
        return __builtin_add_overflow(a.n, b.n, &r.n) ? NUM_OVERFLOW : r;
    struct poly p = to_poly(s, a), q = to_poly(s, b);
    return poly_add(&p, &q, 1, &p) ? from_poly(s, &p) : NUM_UNKNOWN;
}

struct num num_sub(struct symbols *s, struct num a, struct num b)
{
    struct num r;
    if (undefined(a, b, &r))
        return r;
    if (!a.sym && !b.sym)
        return __builtin_sub_overflow(a.n, b.n, &r.n) ? NUM_OVERFLOW : r;
    struct poly p = to_poly(s, a), q = to_poly(s, b);
    return poly_add(&p, &q, -1, &p) ? from_poly(s, &p) : NUM_UNKNOWN;
}

struct num num_mul(struct symbols *s, struct num a, struct num b)
{
    struct num r;
    if (undefined(a, b, &r))
        return r;
    if (!a.sym && !b.sym)
        return __builtin_mul_overflow(a.n, b.n, &r.n) ? NUM_OVERFLOW : r;
    struct poly p = to_poly(s, a), q = to_poly(s, b);
    return poly_mul(&p, &q, &p) ? from_poly(s, &p) : NUM_UNKNOWN;
}

struct num num_div(struct symbols *s, struct num a, struct num b)
{
    struct num r;
    if (undefined(a, b, &r))
        return r;
    if (!b.sym && b.n == 0)
        return NUM_UNKNOWN;
    if (!a.sym && !b.sym)
        return a.n == INT64_MIN && b.n == -1 ? NUM_OVERFLOW : NUM(a.n / b.n);
    struct poly p = to_poly(s, a), q = to_poly(s, b);
    if (poly_div(&p, &q, &p))
        return from_poly(s, &p);
    return intern(s, &(struct symbol){ .kind = S_DIV, .a = a, .b = b });
}

/* One of the operands of a minimum or maximum; symbols are kept in one order, so min(a,b) is min(b,a). */
static struct num extreme(struct symbols *s, enum kind kind, struct num a, struct num b)
{
    bool swap = a.sym < b.sym || (a.sym == b.sym && a.n < b.n);
    return intern(s, &(struct symbol){ .kind = kind, .a = swap ? b : a, .b = swap ? a : b });
}

struct num num_min(struct symbols *s, struct num a, struct num b)
{
    struct num r;
    if (undefined(a, b, &r))
        return r;
    if (num_ge(s, a, b))
        return b;
    return num_ge(s, b, a) ? a : extreme(s, S_MIN, a, b);
}

struct num num_max(struct symbols *s, struct num a, struct num b)
{
    struct num r;
    if (undefined(a, b, &r))
        return r;
    if (num_ge(s, a, b))
        return a;
    return num_ge(s, b, a) ? b : extreme(s, S_MAX, a, b);
}

static const struct symbol *as(const struct symbols *s, struct num a, enum kind kind)
{
    return a.sym > 0 && s->list[a.sym - 1]->kind == kind ? s->list[a.sym - 1] : NULL;
}

/* By the bounds of a - b alone. */
static bool ge_by_bounds(struct symbols *s, struct num a, struct num b)
{
    struct poly p = to_poly(s, a), q = to_poly(s, b);
    int64_t lo, hi;
    if (num_equal(a, b) || (low(s, a) > -FAR && high(s, b) < FAR && low(s, a) >= high(s, b)))
        return true;
    if (!poly_add(&p, &q, -1, &p))
        return false;
    poly_bounds(s, &p, &lo, &hi);
    return lo >= 0;
}

bool num_ge(struct symbols *s, struct num a, struct num b)
{
    if (a.sym < 0 || b.sym < 0)
        return false;
    if (!a.sym && !b.sym)
        return a.n >= b.n;
    if (ge_by_bounds(s, a, b))
        return true;
    const struct symbol *min = as(s, b, S_MIN), *max = as(s, a, S_MAX);
    return (min && (ge_by_bounds(s, a, min->a) || ge_by_bounds(s, a, min->b))) ||
           (max && (ge_by_bounds(s, max->a, b) || ge_by_bounds(s, max->b, b)));
}
