/*
 * npz_write.c - an uncompressed .npz, the same bytes for the same arrays.
 *
 * Sizes and places always stand in zip64 fields, so that archives over 4 GiB take no path that smaller
 * ones (and the tests) do not.  The .npy headers are padded so that data starts at a multiple of 64 in
 * the file: our own reader and np.load(mmap_mode=...) use it in place.
 */
#include "core/base/buf.h"
#include "core/data/bytes.h"
#include "core/data/npy.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    ALIGN = 64, MAX_HEADER = 512,
    ZIP64_VERSION = 45,                    /* "4.5 is needed to read this" */
    DOS_DATE_1980 = 1 << 5 | 1, UTF8_NAMES = 1 << 11,
};

struct member { uint64_t start, size; uint32_t crc; };

struct writer { struct newfile file; struct buf directory; struct err *e; };

static void add(struct buf *b, uint64_t x, int bytes)
{
    uint8_t raw[8];
    le_put(raw, x, bytes);
    buf_add(b, raw, (size_t)bytes);
}

/* What the two headers of a member have in common: version to the length of the name. */
static void add_common(struct buf *b, const struct member *m, const char *name)
{
    add(b, ZIP64_VERSION, 2);
    add(b, UTF8_NAMES, 2);
    add(b, 0, 2);                          /* stored */
    add(b, 0, 2);                          /* midnight */
    add(b, DOS_DATE_1980, 2);
    add(b, m->crc, 4);
    add(b, 0xFFFFFFFF, 4);
    add(b, 0xFFFFFFFF, 4);
    add(b, strlen(name) + 4, 2);
}

static void add_name(struct buf *b, const char *name)
{
    buf_str(b, name);
    buf_str(b, ".npy");
}

static void add_local(struct buf *b, const struct member *m, const char *name)
{
    add(b, 0x04034b50, 4);
    add_common(b, m, name);
    add(b, 20, 2);
    add_name(b, name);
    add(b, 1, 2);                          /* zip64: unpacked and packed size */
    add(b, 16, 2);
    add(b, m->size, 8);
    add(b, m->size, 8);
}

static void add_central(struct buf *b, const struct member *m, const char *name)
{
    add(b, 0x02014b50, 4);
    add(b, ZIP64_VERSION, 2);
    add_common(b, m, name);
    add(b, 28, 2);
    add(b, 0, 2 + 2 + 2);                  /* comment, disk, internal attributes */
    add(b, 0, 4);
    add(b, 0xFFFFFFFF, 4);
    add_name(b, name);
    add(b, 1, 2);                          /* zip64: both sizes and the place */
    add(b, 24, 2);
    add(b, m->size, 8);
    add(b, m->size, 8);
    add(b, m->start, 8);
}

static void add_end(struct buf *b, uint64_t directory_at, uint64_t directory_size, uint64_t entries)
{
    uint64_t end64 = directory_at + directory_size;
    add(b, 0x06064b50, 4);
    add(b, 44, 8);
    add(b, ZIP64_VERSION, 2);
    add(b, ZIP64_VERSION, 2);
    add(b, 0, 8);
    add(b, entries, 8);
    add(b, entries, 8);
    add(b, directory_size, 8);
    add(b, directory_at, 8);
    add(b, 0x07064b50, 4);
    add(b, 0, 4);
    add(b, end64, 8);
    add(b, 1, 4);
    add(b, 0x06054b50, 4);
    add(b, 0, 4);
    add(b, 0xFFFF, 2);
    add(b, 0xFFFF, 2);
    add(b, 0xFFFFFFFF, 4);
    add(b, 0xFFFFFFFF, 4);
    add(b, 0, 2);
}

/* The .npy header of a member whose bytes start at `at` in the file. */
static void npy_head(struct buf *b, const struct tensor *t, uint64_t at)
{
    struct buf text = BUF_INIT(MAX_HEADER);
    buf_printf(&text, "{'descr': '%s', 'fortran_order': False, 'shape': (", npy_descr(t->dtype));
    for (int i = 0; i < t->shape.rank; i++)
        buf_printf(&text, "%s%lld%s", i ? " " : "", (long long)t->shape.dim[i], i + 1 < t->shape.rank || i == 0 ? "," : "");
    buf_str(&text, "), }");
    while ((at + 10 + text.n + 1) % ALIGN != 0)
        buf_str(&text, " ");
    buf_str(&text, "\n");
    buf_add(b, "\x93NUMPY\1\0", 8);
    add(b, text.n, 2);
    if (text.n)
        buf_add(b, text.p, text.n);
    b->bad |= text.bad;
    buf_release(&text);
}

static bool flush(struct writer *w, struct buf *b)
{
    bool ok = b->bad ? err_set(w->e, ERR_MEMORY, "", "no memory for the header of an archive")
                     : newfile_write(&w->file, b->p, b->n, w->e);
    buf_release(b);
    return ok;
}

static bool write_member(struct writer *w, const struct array *a)
{
    uint64_t bytes;
    if (!npy_descr(a->t.dtype))
        return err_set(w->e, ERR_DATA_DTYPE, a->name, "a .npz has no type for %s", dtype_name(a->t.dtype));
    if (strlen(a->name) > DATA_MAX_NAME)
        return err_set(w->e, ERR_DATA_LIMIT, a->name, "the name has more than %d bytes", DATA_MAX_NAME);
    if (!array_size(a->t.dtype, &a->t.shape, a->name, &bytes, w->e))
        return false;
    struct buf head = BUF_INIT(2 * MAX_HEADER), npy = BUF_INIT(2 * MAX_HEADER);
    struct member m = { .start = w->file.size };
    npy_head(&npy, &a->t, m.start + 30 + strlen(a->name) + 4 + 20);
    m.size = npy.n + bytes;
    m.crc = (uint32_t)crc32_z(0, (const Bytef *)npy.p, npy.n);
    if (bytes)                             /* zlib starts over where the pointer is NULL */
        m.crc = (uint32_t)crc32_z(m.crc, a->t.data, (size_t)bytes);
    add_local(&head, &m, a->name);
    add_central(&w->directory, &m, a->name);
    bool ok = flush(w, &head) && flush(w, &npy) && newfile_write(&w->file, a->t.data, (size_t)bytes, w->e);
    buf_release(&head);
    buf_release(&npy);
    return ok;
}

static bool write_all(struct writer *w, const struct array *arrays, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!write_member(w, &arrays[i]))
            return false;
    uint64_t at = w->file.size, size = w->directory.n;
    add_end(&w->directory, at, size, n);
    return flush(w, &w->directory);
}

bool npz_write(const char *path, const struct array *arrays, size_t n, struct err *e)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    if (!dir)
        return err_set(e, ERR_MEMORY, path, "no memory to write the archive");
    struct writer w = { .file = NEWFILE_NONE, .directory = BUF_INIT((size_t)64 << 20), .e = e };
    bool ok = newfile_open(&w.file, dir, 0644, UINT64_MAX, e) && write_all(&w, arrays, n) && newfile_commit(&w.file, name, e);
    newfile_abort(&w.file);
    buf_release(&w.directory);
    free(dir);
    return ok;
}
