/*
 * fuzz_data.c - libFuzzer over the data readers: any bytes are opened, described and checked against a model, in
 * 1 MiB of memory.  What opens must hold what it claims: every byte of every array is read.
 *
 * corpus-data holds the seeds: small files of each format as numpy and safetensors write them.
 */
#include "tests/fuzz/mutate.h"

#include "core/data/dataset.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A model that takes just these arrays, so that most inputs get as far as their values. */
static void check_samples(struct arena *mem, const struct dataset *d)
{
    struct input_spec specs[4];
    size_t n = 0;
    for (size_t i = 0; i < d->n && n < 4; i++) {
        const struct tensor *t = &d->arrays[i].t;
        enum dtype want = t->dtype == DT_F64 ? DT_F32 : t->dtype == DT_U64 ? DT_I32 : t->dtype;
        specs[n] = (struct input_spec){ d->arrays[i].name, want, t->shape };
        for (int k = 0; k < t->shape.rank; k += 2)
            specs[n].shape.dim[k] = -1 - k;
        n++;
    }
    struct samples s;
    struct err e = { 0 };
    if (dataset_samples(mem, d, specs, n, &s, &e) != (e.code == ERR_NONE))
        abort();
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    static mutator *const by[] = { mutate_safetensors, mutate_npy, mutate_zip, NULL };
    return mutate(by, data, size, max, seed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mapping file = { .data = data, .size = size };
    struct arena *mem = arena_new(1 << 20);
    struct dataset d;
    struct err e = { 0 };
    bool ok = dataset_open(mem, &file, "input", &d, &e);
    if (ok != (e.code == ERR_NONE) || (!ok && (!e.text[0] || err_http_status(e.code) == 500)))
        abort();
    if (ok) {
        json_t *j = dataset_describe(&d);
        if (!j)
            abort();
        json_decref(j);
        check_samples(mem, &d);
    }
    arena_free(mem);
    return 0;
}
