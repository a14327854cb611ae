/*
 * dataset.c - which format a file has, told by its first bytes and never by its name.
 */
#include "core/data/dataset.h"

#include "core/base/json.h"
#include "core/data/format.h"

#include <stdio.h>
#include <string.h>

/* ---- what the readers share ---- */

/* jansson takes only valid UTF-8, so it is asked. */
static bool is_utf8(const char *s, size_t n)
{
    json_t *probe = json_stringn(s, n);
    json_decref(probe);
    return probe != NULL;
}

static bool name_is_safe(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool starts = i == 0 || s[i - 1] == '/', dots = starts && n - i >= 2 && s[i] == '.' && s[i + 1] == '.';
        if ((unsigned char)s[i] < ' ' || s[i] == 0x7f || s[i] == '\\' || (dots && (n - i == 2 || s[i + 2] == '/')))
            return false;
    }
    return n >= 1 && n <= DATA_MAX_NAME && s[0] != '/' && is_utf8(s, n);
}

const char *array_name(struct arena *mem, const void *s, size_t n, const char *where, struct err *e)
{
    if (name_is_safe(s, n))
        return arena_strndup(mem, s, n, e);
    err_set(e, ERR_DATA_FORMAT, where,
            "an array's name is not 1 to %d bytes of plain UTF-8 text, or looks like a path; rename it after a model input",
            DATA_MAX_NAME);
    return NULL;
}

bool array_size(enum dtype t, const struct shape *s, const char *where, uint64_t *ret_bytes, struct err *e)
{
    struct err inner = { 0 };
    return tensor_size(t, s, where, NULL, ret_bytes, &inner) || err_set(e, ERR_DATA_LIMIT, where, "%s", inner.text);
}

bool array_alloc(struct arena *mem, uint64_t bytes, const char *where, struct array *ret, struct err *e)
{
    struct err inner = { 0 };
    ret->t.data = arena_alloc(mem, bytes, &inner);
    ret->paged = arena_paged(mem, bytes);
    return ret->t.data || err_set(e, inner.code, where, "the array needs %s", inner.text);
}

bool array_place(struct arena *mem, const struct mapping *file, const uint8_t *p, uint64_t bytes, const char *where,
                 struct array *ret, struct err *e)
{
    if ((uintptr_t)p % (unsigned)(dtype_bits(ret->t.dtype) / 8) == 0) {
        ret->t.data = (void *)(uintptr_t)p;
        ret->paged = file->of_file;
        return true;
    }
    if (!array_alloc(mem, bytes, where, ret, e))
        return false;
    for (uint64_t at = 0; at < bytes; at += DATA_PIECE) {
        uint64_t n = bytes - at < DATA_PIECE ? bytes - at : DATA_PIECE;
        memcpy((char *)ret->t.data + at, p + at, (size_t)n);
        if (ret->paged)
            mapping_rest((char *)ret->t.data + at, n);
        if (file->of_file)
            mapping_rest(p + at, n);
    }
    return true;
}

/* Touching a page brings up to 64 KiB around it back, which may be what another thread has let go of. */
void array_rest(const struct array *a, int64_t first, int64_t n)
{
    enum { AROUND = 64 << 10 };
    int64_t size = dtype_bits(a->t.dtype) / 8, all = shape_elements(&a->t.shape) * size;
    int64_t from = first * size - AROUND, to = (first + n) * size + AROUND;
    from = from < 0 ? 0 : from;
    to = to > all ? all : to;
    if (a->paged)
        mapping_rest((const char *)a->t.data + from, (uint64_t)(to - from));
}

/* ---- formats ---- */

typedef bool open_fn(struct arena *mem, const struct mapping *file, const char *name, struct dataset *ret, struct err *e);

static const struct signature {
    const char *bytes;
    uint8_t n, at;
    const char *format;
    open_fn *open;                         /* NULL: known, and refused with the remedy */
    const char *remedy;
} signatures[] = {
    { "PK\3\4", 4, 0, "npz", npz_open, NULL },
    { "PK\5\6", 4, 0, "npz", npz_open, NULL },
    { "\x93NUMPY", 6, 0, "npy", npy_open, NULL },
    { "{", 1, 8, "safetensors", safetensors_open, NULL },
    { "\x80\2", 2, 0, "a Python pickle", NULL, "pickles can run code and are never read; save the arrays with np.savez" },
    { "\x80\3", 2, 0, "a Python pickle", NULL, "pickles can run code and are never read; save the arrays with np.savez" },
    { "\x80\4", 2, 0, "a Python pickle", NULL, "pickles can run code and are never read; save the arrays with np.savez" },
    { "\x80\5", 2, 0, "a Python pickle", NULL, "pickles can run code and are never read; save the arrays with np.savez" },
    { "\x89HDF\r\n\x1a\n", 8, 0, "an HDF5 file", NULL, "read it with h5py and save the arrays with np.savez" },
    { "\xff\xd8\xff", 3, 0, "a JPEG picture", NULL, "put all pictures and a preprocess.json into one zip archive" },
    { "\x89PNG\r\n\x1a\n", 8, 0, "a PNG picture", NULL, "put all pictures and a preprocess.json into one zip archive" },
    { "PAR1", 4, 0, "a Parquet file", NULL, "read it with pandas and save the arrays with np.savez" },
    { "ARROW1", 6, 0, "an Arrow file", NULL, "save the arrays with np.savez" },
    { "\x1f\x8b", 2, 0, "a gzip file", NULL, "unpack it, or save the arrays with np.savez_compressed" },
    { "BZh", 3, 0, "a bzip2 file", NULL, "unpack it, or save the arrays with np.savez_compressed" },
    { "\xfd""7zXZ", 5, 0, "an xz file", NULL, "unpack it, or save the arrays with np.savez_compressed" },
    { "\x28\xb5\x2f\xfd", 4, 0, "a zstd file", NULL, "unpack it, or save the arrays with np.savez_compressed" },
    { "MATLAB", 6, 0, "a MATLAB file", NULL, "read it with scipy.io and save the arrays with np.savez" },
};

/* ASCII at least at its start. */
static bool looks_like_text(const struct mapping *file)
{
    uint64_t n = file->size < 512 ? file->size : 512;
    for (uint64_t i = 0; i < n; i++)
        if ((file->data[i] < ' ' && !strchr("\t\r\n", file->data[i])) || file->data[i] == 0 || file->data[i] >= 0x7f)
            return false;
    return true;
}

static const struct signature *sniff(const struct mapping *file)
{
    for (size_t i = 0; i < sizeof signatures / sizeof signatures[0]; i++) {
        const struct signature *s = &signatures[i];
        if (file->size >= (uint64_t)s->at + s->n && memcmp(file->data + s->at, s->bytes, s->n) == 0)
            return s;
    }
    return NULL;
}

static bool refuse(const struct mapping *file, const char *name, const struct signature *known, struct err *e)
{
    if (file->size == 0)
        return err_set(e, ERR_DATA_FORMAT, name, "the file is empty; the upload may have been cut");
    if (known)
        return err_set(e, ERR_DATA_FORMAT, name, "this is %s: %s", known->format, known->remedy);
    if (looks_like_text(file))
        return err_set(e, ERR_DATA_FORMAT, name,
                       "this is text (CSV or JSON?): make arrays of it, as the model takes them, and save them with np.savez");
    return err_set(e, ERR_DATA_FORMAT, name,
                   "not a .npz, .npy, .safetensors or .zip file; save the arrays with np.savez(\"calib.npz\", input_name=array)");
}

static bool names_differ(const struct dataset *d, const char *name, struct err *e)
{
    for (size_t i = 0; i < d->n; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(d->arrays[i].name, d->arrays[k].name) == 0)
                return err_set(e, ERR_DATA_FORMAT, name, "the array \"%.100s\" is there twice; keep one", d->arrays[i].name);
    return true;
}

bool dataset_open(struct arena *mem, const struct mapping *file, const char *name, struct dataset *ret, struct err *e)
{
    /* A JSON document may have its '{' at byte 8 too; a safetensors file never looks like text. */
    const struct signature *s = sniff(file);
    if (!s || !s->open || (s->at == 8 && looks_like_text(file)))
        return refuse(file, name, s && !s->open ? s : NULL, e);
    struct dataset d = { .format = s->format };
    if (!s->open(mem, file, name, &d, e) || !names_differ(&d, name, e))
        return false;
    if (d.n == 0)
        return err_set(e, ERR_DATA_FORMAT, name,
                       "the file holds no arrays; save them with np.savez(\"calib.npz\", input_name=array)");
    *ret = d;
    return true;
}

const struct array *dataset_find(const struct dataset *d, const char *name)
{
    for (size_t i = 0; i < d->n; i++)
        if (strcmp(d->arrays[i].name, name) == 0)
            return &d->arrays[i];
    return NULL;
}
