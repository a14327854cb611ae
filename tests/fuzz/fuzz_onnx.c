/*
 * Any bytes: the ONNX reader refuses them or reads a model that can be written, read again and written to the same
 * bytes.  The input's first bytes also stand for a file of external data, "w.bin"; few, because many tensors may be
 * the same range of it.
 */
#include "tests/fuzz/mutate.h"

#include "core/base/arena.h"
#include "core/base/buf.h"
#include "core/onnx/onnx.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WRITTEN_MAX = 1 << 28, EXTERNAL_MAX = 64 };

static bool keep(void *arg, const void *p, size_t n, struct err *e)
{
    struct buf *b = arg;
    buf_add(b, p, n);
    return !b->bad || err_set(e, ERR_MEMORY, "", "the written model is too large");
}

static struct buf written(const struct onnx_model *m)
{
    struct buf b = BUF_INIT(WRITTEN_MAX);
    bool ok = onnx_write(m, &(struct onnx_sink){ keep, &b }, NULL);
    assert(ok);
    return b;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    static mutator *const by[] = { mutate_wire, NULL };
    return mutate(by, data, size, max, seed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *mem = arena_new(1 << 24);
    struct onnx_file files[] = { { "model.onnx", data, size, false }, { "w.bin", data, size < EXTERNAL_MAX ? size : EXTERNAL_MAX, false } };
    struct onnx_model m, again;
    struct err e = { 0 };
    assert(mem);
    if (onnx_read(mem, files, 2, &m, &e)) {
        struct arena *second = arena_new(WRITTEN_MAX);
        assert(second);
        struct buf first = written(&m);
        bool ok = onnx_read(second, &(struct onnx_file){ "model.onnx", (const uint8_t *)first.p, first.n, false }, 1, &again, &e);
        assert(ok);
        struct buf last = written(&again);
        assert(first.n == last.n && memcmp(first.p, last.p, first.n) == 0);
        buf_release(&first);
        buf_release(&last);
        arena_free(second);
    } else {
        assert(e.code != ERR_NONE && e.code != ERR_BUG && e.text[0]);
    }
    arena_free(mem);
    return 0;
}
