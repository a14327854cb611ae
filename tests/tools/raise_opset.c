/*
 * raise_opset.c - opset_raise() on a file: `raise_opset MODEL OUT [OPSET]`.
 *
 * The model is read and written, never imported, so that it may have operators that our engine does not run.
 */
#include "core/artifact/opset.h"
#include "core/base/io.h"

#include <stdio.h>
#include <stdlib.h>

static bool write_file(void *arg, const void *p, size_t n, struct err *e)
{
    return fwrite(p, 1, n, arg) == n || err_sys(e, "output", "writing");
}

static bool raise_file(const char *from, FILE *out, int opset, struct arena *mem, struct err *e)
{
    struct mapping map = { 0 };
    struct onnx_model m;
    bool ok = mapping_path(&map, from, e) && onnx_read(mem, &(struct onnx_file){ "model.onnx", map.data, map.size, true }, 1, &m, e)
              && opset_raise(&m, opset, mem, e) && onnx_write(&m, &(struct onnx_sink){ write_file, out }, e);
    mapping_release(&map);
    return ok;
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    if (argc < 3) {
        fprintf(stderr, "usage: raise_opset MODEL OUT [OPSET]\n");
        return 2;
    }
    struct arena *mem = arena_new((uint64_t)1 << 32);
    FILE *out = fopen(argv[2], "wb");
    bool ok = mem && out && raise_file(argv[1], out, argc > 3 ? (int)strtol(argv[3], NULL, 10) : OPSET_INT4, mem, &e);
    if (out && fclose(out) != 0)
        ok = err_sys(&e, argv[2], "writing");
    if (!ok)
        fprintf(stderr, "%s: %s: %s\n", err_slug(e.code), e.where, e.text);
    arena_free(mem);
    return ok ? 0 : e.code ? err_exit_code(e.code) : 3;
}
