/*
 * Any bytes: the data reader refuses them, or reads arrays whose every byte can be touched and that are
 * written to an .npz from which the same arrays are read again.
 */
#include "core/base/arena.h"
#include "core/base/io.h"
#include "core/data/dataset.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_LIMIT = 1 << 24, NAME_MAX_BYTES = 200 };

static uint64_t bytes_of(const struct array *a)
{
    uint64_t bytes = 0;
    bool ok = tensor_size(a->t.dtype, &a->t.shape, a->name, NULL, &bytes, NULL);
    assert(ok);
    return bytes;
}

/* Reads what it names: the sanitizer sees a borrowed range that leaves the file. */
static unsigned touched(const struct dataset *d)
{
    unsigned sum = 0;
    for (size_t i = 0; i < d->n; i++)
        for (uint64_t at = 0, n = bytes_of(&d->arrays[i]); at < n; at++)
            sum += ((const uint8_t *)d->arrays[i].t.data)[at];
    return sum;
}

static bool same(const struct array *a, const struct array *b)
{
    return b && a->t.dtype == b->t.dtype && shape_equal(&a->t.shape, &b->t.shape)
        && (bytes_of(a) == 0 || memcmp(a->t.data, b->t.data, bytes_of(a)) == 0);
}

static void written_and_read_again(const struct dataset *d)
{
    char path[64];
    struct err e = { 0 };
    struct mapping file = { 0 };
    struct dataset again;
    struct arena *mem = arena_new(4 * ARENA_LIMIT);
    assert(mem);
    snprintf(path, sizeof path, "/dev/shm/fuzz_data.%d.npz", (int)getpid());
    bool ok = npz_write(path, d->arrays, d->n, &e) && mapping_path(&file, path, &e);
    assert(ok);
    ok = dataset_open(mem, &file, "again.npz", &again, &e);
    assert(ok && again.n == d->n);
    for (size_t i = 0; i < d->n; i++)
        assert(same(&d->arrays[i], dataset_find(&again, d->arrays[i].name)));
    mapping_release(&file);
    unlink(path);
    arena_free(mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mapping file = { data, size };
    struct dataset d;
    struct err e = { 0 };
    struct arena *mem = arena_new(ARENA_LIMIT);
    assert(mem);
    if (dataset_open(mem, &file, "data", &d, &e)) {
        volatile unsigned sum = touched(&d);
        (void)sum;
        written_and_read_again(&d);
    } else {
        assert(e.code != ERR_NONE && e.code != ERR_BUG && e.text[0]);
    }
    arena_free(mem);
    return 0;
}
