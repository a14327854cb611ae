/*
 * symbols.h - lengths that are not numbers yet: "batch", "batch*197", "min(seq,512)".
 *
 * A symbol is an interned expression: equal expressions are one symbol, so two
 * lengths are known to agree exactly when their numbers agree.  Sums and
 * products are kept as expanded polynomials over atoms (an input's dimension, an unknown
 * length, or a quotient, minimum or maximum that does not simplify), which makes
 * (seq+1)*2 and seq*2+2 the same symbol.
 *
 * Named symbols are dimensions of inputs and at least 1: graph_bind() refuses empty ones.
 * Internal to core/graph.
 */
#ifndef CORE_GRAPH_SYMBOLS_H
#define CORE_GRAPH_SYMBOLS_H

#include "core/base/arena.h"

#include <stdint.h>

/* An element of a shape tensor: a number, a symbol, or nothing known. */
struct num {
    int64_t n;       /* the number, if sym is 0 */
    int sym;         /* k > 0: symbol k-1; else one of the below */
};
enum { NUM_IS_UNKNOWN = -1, NUM_IS_OVERFLOW = -2 };
#define NUM(v) ((struct num){ .n = (v) })
#define NUM_UNKNOWN ((struct num){ .sym = NUM_IS_UNKNOWN })
#define NUM_OVERFLOW ((struct num){ .sym = NUM_IS_OVERFLOW })

static inline bool num_known(struct num a) { return a.sym == 0; }
static inline bool num_equal(struct num a, struct num b) { return a.sym == b.sym && a.n == b.n; }
/* Dimensions of struct shape are numbers >= 0 and symbols -1-k, which is -sym. */
static inline struct num num_dim(int64_t dim) { return dim >= 0 ? NUM(dim) : (struct num){ .sym = (int)-dim }; }

struct symbols;

struct symbols *symbols_new(struct arena *mem, struct err *e);

/* The symbol of an input's dimension: one per name. */
struct num symbol_named(struct symbols *s, const char *name);
/* A length of its own that nothing is known of: "?0", "?1"... */
struct num symbol_unknown(struct symbols *s);

int symbols_count(const struct symbols *s);
/* False after an allocation failed; results since then are NUM_UNKNOWN. */
bool symbols_ok(const struct symbols *s);
/* The names by number, as struct graph has them; valid until the next symbol is made. */
const char **symbols_names(const struct symbols *s);

/*
 * Arithmetic.  Numbers need no table: s may be NULL where no operand is a
 * symbol.  Overflow of numbers gives NUM_OVERFLOW, an expression too large to keep
 * NUM_UNKNOWN; both pass through every operation.  Division truncates as C does;
 * by zero it is NUM_UNKNOWN.
 */
struct num num_add(struct symbols *s, struct num a, struct num b);
struct num num_sub(struct symbols *s, struct num a, struct num b);
struct num num_mul(struct symbols *s, struct num a, struct num b);
struct num num_div(struct symbols *s, struct num a, struct num b);
struct num num_min(struct symbols *s, struct num a, struct num b);
struct num num_max(struct symbols *s, struct num a, struct num b);

/* True if a >= b for every value the symbols can take; false if that cannot be shown. */
bool num_ge(struct symbols *s, struct num a, struct num b);

#endif
