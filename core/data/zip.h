/*
 * zip.h - the members of a zip archive that a stranger made.
 *
 * The central directory and the local headers must agree, members must not overlap, and names are
 * keys: nothing is ever written under one.  Stored and deflated members only, and by their modes, where
 * they have any, only files and folders: a link is refused.  What all members together unpack to is at most 1,000 times the file (and 64 KiB more, for small files).
 */
#ifndef CORE_DATA_ZIP_H
#define CORE_DATA_ZIP_H

#include "core/base/arena.h"
#include "core/base/io.h"

#include <zlib.h>

enum { ZIP_MAX_ENTRIES = 20100, ZIP_MAX_RATIO = 1000, ZIP_GRACE = 64 << 10 };

struct zip_entry {
    const uint8_t *name;                   /* borrowed from the file, name_size bytes, not terminated */
    const uint8_t *data;                   /* the packed bytes, in the file */
    uint64_t packed, unpacked;
    uint64_t start;                        /* of the local header in the file */
    uint32_t name_size, crc;
    bool deflated;
};

struct zip {
    struct zip_entry *entries;             /* in the arena, by increasing offset */
    size_t n;
};

/* Reads the directory.  `file` must outlive the zip.  ERR_DATA_FORMAT, ERR_DATA_LIMIT, ERR_MEMORY. */
bool zip_open(struct arena *mem, const struct mapping *file, const char *where, struct zip *ret, struct err *e);

/*
 * One member from its start to its end, in pieces of the caller's choice:
 *   zip_start() -> zip_read()* -> zip_end(), and zip_stop() always.
 */
struct zip_reader {
    const struct zip_entry *entry;
    const char *where;
    z_stream z;
    uint64_t left;                         /* unpacked bytes not yet read */
    uint32_t crc;                          /* of those read */
};
bool zip_start(struct zip_reader *r, const struct zip_entry *entry, const char *where, struct err *e);
bool zip_read(struct zip_reader *r, void *to, uint64_t n, struct err *e);       /* exactly n bytes */
bool zip_skim(struct zip_reader *r, uint64_t n, struct err *e);                 /* n bytes of a stored member, used where they are */
const uint8_t *zip_at(const struct zip_reader *r);                              /* how far the member's bytes in the file are read */
bool zip_end(struct zip_reader *r, struct err *e);                              /* all was read and the checksum fits */
void zip_stop(struct zip_reader *r);                                            /* releases; after a failed zip_start() too */

#endif
