/*
 * store.h - tensors held between passes of the sweep: in memory up to a budget, beyond it in one spill file.
 *
 * Where a tensor lies never shows in a result.  Thread-safe.  The spill file
 * is unlinked at birth: a killed process leaves nothing behind.
 */
#ifndef CORE_SWEEP_STORE_H
#define CORE_SWEEP_STORE_H

#include "core/base/err.h"

#include <stdint.h>

struct store;

struct held {              /* {0}: nothing */
    void *mem;             /* resident bytes, or NULL */
    uint64_t at, bytes;    /* place in the spill file */
    bool there;
};

/* dir is where the spill file is made when it is first needed; borrowed. */
struct store *store_new(uint64_t budget, const char *dir, struct err *e);
void store_free(struct store *s);          /* NULL is fine; held tensors must have been dropped */

/* Copies `bytes` bytes in. */
bool store_put(struct store *s, const void *data, uint64_t bytes, struct held *ret, struct err *e);

/* The bytes: resident ones as they are, spilled ones in *ret_temp, which the caller frees (NULL otherwise). */
const void *store_get(struct store *s, const struct held *h, void **ret_temp, struct err *e);
void store_drop(struct store *s, struct held *h);

/* Most resident bytes at any time; bytes ever spilled. */
void store_usage(struct store *s, uint64_t *ret_peak, uint64_t *ret_spilled);

#endif
