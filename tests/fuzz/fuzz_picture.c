/*
 * fuzz_picture.c - libFuzzer over what an image data set is made of.  The first byte says what the rest is: a picture, which is decoded,
 * framed and turned into numbers; a preprocess.json; a labels.csv; or a whole archive.
 */
#include "tests/fuzz/mutate.h"

#include "core/data/dataset.h"
#include "core/data/labels.h"
#include "core/data/preprocess.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void sane(bool ok, const struct err *e)
{
    if (ok != (e->code == ERR_NONE) || (!ok && (!e->text[0] || err_http_status(e->code) == 500)))
        abort();
}

static void try_picture(const uint8_t *data, size_t size)
{
    static const char how[] = "{\"resize\":[9,7],\"crop\":[5,6],\"mean\":[0,0,0],\"std\":[1,1,1]}";
    struct picture p = PICTURE_NONE, frame = PICTURE_NONE;
    struct preprocess pre;
    struct err e = { 0 };
    float values[3 * 5 * 6];
    bool ok = picture_decode(data, size, "picture", &p, &e);
    sane(ok, &e);
    if (!ok)
        return;
    uint64_t sum = 0;
    for (size_t i = 0; i < (size_t)p.width * (size_t)p.height * 3; i++)
        sum += p.rgb[i];
    if (!preprocess_parse(how, strlen(how), &pre, &e) || !preprocess_frame(&pre, &p, "picture", &frame, &e) || sum > UINT64_MAX / 2)
        abort();
    preprocess_values(&pre, &frame, values);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        if (!(values[i] >= 0 && values[i] <= 1))
            abort();
    picture_release(&p);
    picture_release(&frame);
}

static void try_preprocess(const uint8_t *data, size_t size)
{
    struct preprocess pre;
    struct picture p, frame = PICTURE_NONE;
    struct err e = { 0 };
    bool ok = preprocess_parse((const char *)data, size, &pre, &e);
    sane(ok, &e);
    if (!ok || pre.resize.height > 64 || pre.resize.width > 64 || !picture_alloc(&p, 33, 17, "p", &e))
        return;
    sane(preprocess_frame(&pre, &p, "picture", &frame, &e), &e);
    picture_release(&p);
    picture_release(&frame);
}

static void try_labels(const uint8_t *data, size_t size)
{
    struct arena *mem = arena_new(1 << 22);
    struct labels l;
    struct err e = { 0 };
    int64_t value;
    bool ok = labels_parse(mem, (const char *)data, size, &l, &e);
    sane(ok, &e);
    for (size_t i = 0; ok && i < l.n; i++)
        if (!labels_find(&l, l.items[i].file, &value) || value != l.items[i].value)
            abort();
    arena_free(mem);
}

static void try_archive(const uint8_t *data, size_t size)
{
    struct arena *mem = arena_new(1 << 22);
    struct mapping file = { .data = data, .size = size };
    struct dataset d;
    struct err e = { 0 };
    bool ok = dataset_open(mem, &file, "archive", &d, &e);
    sane(ok, &e);
    json_t *about = ok ? dataset_describe(&d) : NULL;
    if (ok && !about)
        abort();
    json_decref(about);
    arena_free(mem);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    static mutator *const by[] = { mutate_png, mutate_zip, NULL };
    return size > 1 ? mutate(by, data + 1, size - 1, max - 1, seed) + 1 : LLVMFuzzerMutate(data, size, max);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(const uint8_t *data, size_t size) = { try_picture, try_preprocess, try_labels, try_archive };
    if (size > 0)
        tries[data[0] % 4](data + 1, size - 1);
    return 0;
}
