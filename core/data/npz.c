/* npz.c - a zip archive of .npy arrays, as np.savez and np.savez_compressed write it. */
#include "core/data/images.h"
#include "core/data/npy.h"
#include "core/data/zip.h"

#include <string.h>

static bool name_of_member(struct arena *mem, const struct zip_entry *entry, const char *file_name, const char **ret,
                           struct err *e)
{
    static const char suffix[4] = ".npy";
    size_t n = entry->name_size;
    if (n <= sizeof suffix || memcmp(entry->name + n - sizeof suffix, suffix, sizeof suffix) != 0) {
        const char *member = array_name(mem, entry->name, n, file_name, e);
        return member && err_set(e, ERR_DATA_FORMAT, member,
                                 "the archive holds a file that is not a .npy array; save arrays with np.savez, "
                                 "or put JPEG or PNG pictures and a preprocess.json into it");
    }
    *ret = array_name(mem, entry->name, n - sizeof suffix, file_name, e);
    return *ret != NULL;
}

/* n more bytes to `to`, or, where they are used in place, past them. */
static bool read_pieces(struct zip_reader *r, const struct mapping *file, const struct array *ret, uint8_t *to, uint64_t n, bool in_place,
                        struct err *e)
{
    for (uint64_t at = 0; at < n; at += DATA_PIECE) {
        uint64_t piece = n - at < DATA_PIECE ? n - at : DATA_PIECE;
        const uint8_t *from = zip_at(r);
        if (!(in_place ? zip_skim(r, piece, e) : zip_read(r, to + at, piece, e)))
            return false;
        if (ret->paged)
            mapping_rest(to + at, piece);
        if (file->of_file)
            mapping_rest(from, (uint64_t)(zip_at(r) - from));
    }
    return true;
}

/* The header is read before memory is taken, so the memory is what the array really has. */
static bool read_array(struct arena *mem, const struct mapping *file, struct zip_reader *r, struct array *ret, struct err *e)
{
    uint8_t head[NPY_MAX_START];
    const struct zip_entry *entry = r->entry;
    uint64_t n = entry->unpacked < sizeof head ? entry->unpacked : sizeof head;
    struct npy npy;
    if (!zip_read(r, head, n, e) || !npy_header(head, n, r->where, &npy, e))
        return false;
    if (npy.start + npy.bytes != entry->unpacked)
        return err_set(e, ERR_DATA_FORMAT, r->where, "the array has %llu bytes of data, its header says %llu; save it again",
                       (unsigned long long)(entry->unpacked - npy.start), (unsigned long long)npy.bytes);
    const uint8_t *in_file = entry->data + npy.start;
    bool in_place = !entry->deflated && (uintptr_t)in_file % (unsigned)(dtype_bits(npy.dtype) / 8) == 0;
    ret->t = (struct tensor){ npy.dtype, npy.shape, (void *)(uintptr_t)in_file };
    ret->paged = file->of_file;
    if (!in_place) {
        if (!array_alloc(mem, npy.bytes, r->where, ret, e))
            return false;
        memcpy(ret->t.data, head + npy.start, (size_t)(n - npy.start));
    }
    return read_pieces(r, file, ret, (uint8_t *)ret->t.data + (n - npy.start), entry->unpacked - n, in_place, e);
}

static bool open_member(struct arena *mem, const struct mapping *file, const struct zip_entry *entry, struct array *ret, struct err *e)
{
    struct zip_reader r;
    bool ok = zip_start(&r, entry, ret->name, e) && read_array(mem, file, &r, ret, e) && zip_end(&r, e);
    zip_stop(&r);
    return ok;
}

bool npz_open(struct arena *mem, const struct mapping *file, const char *name, struct dataset *ret, struct err *e)
{
    struct zip z;
    if (!zip_open(mem, file, name, &z, e))
        return false;
    if (images_in_zip(&z))
        return images_open_zip(mem, &z, name, ret, e);
    if (z.n > DATASET_MAX_ARRAYS)
        return err_set(e, ERR_DATA_LIMIT, name, "the archive has %zu arrays, at most %d are read", z.n, DATASET_MAX_ARRAYS);
    ret->n = z.n;
    ret->arrays = arena_array(mem, z.n, sizeof *ret->arrays, e);
    if (!ret->arrays)
        return false;
    /* All names first: an archive of something else is told so before anything is unpacked. */
    for (size_t i = 0; i < z.n; i++)
        if (!name_of_member(mem, &z.entries[i], name, &ret->arrays[i].name, e))
            return false;
    for (size_t i = 0; i < z.n; i++)
        if (!open_member(mem, file, &z.entries[i], &ret->arrays[i], e))
            return false;
    return true;
}
