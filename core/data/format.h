/*
 * format.h - the readers behind dataset_open(), and the checks they share.  Private to core/data.
 *
 * Every reader gets the whole file, fills *ret and leaves ret->format to dataset_open().
 */
#ifndef CORE_DATA_FORMAT_H
#define CORE_DATA_FORMAT_H

#include "core/data/dataset.h"

enum { DATA_MAX_NAME = 256 };

bool npz_open(struct arena *mem, const struct mapping *file, const char *name, struct dataset *ret, struct err *e);
bool npy_open(struct arena *mem, const struct mapping *file, const char *name, struct dataset *ret, struct err *e);
bool safetensors_open(struct arena *mem, const struct mapping *file, const char *name, struct dataset *ret, struct err *e);

/*
 * The name of an array, copied to the arena; NULL with ERR_DATA_FORMAT where it is not 1 to 256
 * bytes of UTF-8, holds control characters, or reads like a way out of a folder.  It is only ever
 * a key, but it is printed, and somebody downstream may make a file of it.
 */
const char *array_name(struct arena *mem, const void *s, size_t n, const char *where, struct err *e);

/* tensor_size() in the terms of a data file: ERR_DATA_LIMIT.  Elements have at least one byte. */
bool array_size(enum dtype t, const struct shape *s, const char *where, uint64_t *ret_bytes, struct err *e);

/* Arrays are read in pieces of so many bytes, each let go of before the next. */
enum { DATA_PIECE = 1 << 20 };

/* Room for an array's data, with ret->paged; the error names the array. */
bool array_alloc(struct arena *mem, uint64_t bytes, const char *where, struct array *ret, struct err *e);

/* bytes at `p` in the file for an array whose type is set: in place if aligned for it, else a copy. */
bool array_place(struct arena *mem, const struct mapping *file, const uint8_t *p, uint64_t bytes, const char *where,
                 struct array *ret, struct err *e);

#endif
