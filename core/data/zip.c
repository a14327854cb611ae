/*
 * zip.c - found from its end, as the format wants it:
 *
 *   [local header, name, extra, data]*  [central header]*  [zip64 end, locator]?  end record, comment
 *
 * The three ways in which archives lie are closed here: sizes (central and local header must say
 * the same, the data must unpack to exactly that), places (every range lies in the file before the
 * directory and none overlaps another) and counts (bounded before memory is taken).
 */
#include "core/data/zip.h"

#include "core/data/bytes.h"
#include "core/data/format.h"

#include <stdlib.h>
#include <string.h>

enum {
    LOCAL_SIG = 0x04034b50, CENTRAL_SIG = 0x02014b50, END_SIG = 0x06054b50, END64_SIG = 0x06064b50, LOCATOR_SIG = 0x07064b50,
    LOCAL_SIZE = 30, CENTRAL_SIZE = 46, END_SIZE = 22, END64_SIZE = 56, LOCATOR_SIZE = 20,
    MAX_COMMENT = 0xFFFF, NO16 = 0xFFFF, EXTRA_ZIP64 = 1,
    FLAG_ENCRYPTED = 1 | 1 << 6 | 1 << 13, FLAG_PATCH = 1 << 5, FLAG_DESCRIPTOR = 1 << 3,
    STORED = 0, DEFLATED = 8,
};
#define NO32 0xFFFFFFFFu

static bool damaged(const char *where, struct err *e, const char *what)
{
    return err_set(e, ERR_DATA_FORMAT, where, "%s; the archive is damaged or hostile: save it again with np.savez", what);
}

struct directory { uint64_t at, size, entries; };

/* ---- the end record ---- */

/* The end record whose comment ends exactly with the file: the last one, so nothing can hide behind it. */
static const uint8_t *find_end(const struct mapping *file)
{
    for (uint64_t back = END_SIZE; back <= file->size && back <= END_SIZE + MAX_COMMENT; back++) {
        const uint8_t *p = file->data + file->size - back;
        if (le32(p) == END_SIG && le16(p + 20) == back - END_SIZE)
            return p;
    }
    return NULL;
}

/* Where both end records exist, the short one says the same or says that it cannot. */
static bool agree(uint64_t in_short, uint64_t no_value, uint64_t in_long) { return in_short == no_value || in_short == in_long; }

/* The 64-bit end record in front of the locator, if there is one.  *ret_end is where the directory must end. */
static bool read_end64(const struct mapping *file, uint64_t end, const char *where, struct directory *d,
                       uint64_t *ret_end, struct err *e)
{
    if (end < LOCATOR_SIZE + END64_SIZE || le32(file->data + end - LOCATOR_SIZE) != LOCATOR_SIG)
        return true;
    uint64_t at = le64(file->data + end - LOCATOR_SIZE + 8);
    if (at != end - LOCATOR_SIZE - END64_SIZE)
        return damaged(where, e, "the zip64 end record is not where it should be");
    const uint8_t *p = file->data + at;
    if (le32(p) != END64_SIG || le64(p + 4) != END64_SIZE - 12 || le32(p + 16) != 0 || le32(p + 20) != 0 ||
        le64(p + 24) != le64(p + 32))
        return damaged(where, e, "the zip64 end record is not valid");
    if (!agree(d->entries, NO16, le64(p + 32)) || !agree(d->size, NO32, le64(p + 40)) || !agree(d->at, NO32, le64(p + 48)))
        return damaged(where, e, "the two end records differ");
    *d = (struct directory){ le64(p + 48), le64(p + 40), le64(p + 32) };
    *ret_end = at;
    return true;
}

static bool find_directory(const struct mapping *file, const char *where, struct directory *ret, struct err *e)
{
    const uint8_t *p = find_end(file);
    if (!p)
        return err_set(e, ERR_DATA_FORMAT, where,
                       "the zip archive has no end; the upload was cut or something was appended to the file");
    if (le16(p + 4) != 0 || le16(p + 6) != 0 || le16(p + 8) != le16(p + 10))
        return err_set(e, ERR_DATA_FORMAT, where, "the zip archive is split over several files; make it one file");
    struct directory d = { le32(p + 16), le32(p + 12), le16(p + 10) };
    uint64_t end = (uint64_t)(p - file->data);
    if (!read_end64(file, end, where, &d, &end, e))
        return false;
    if (d.at > end || d.size != end - d.at)
        return damaged(where, e, "the zip directory is not where its end record says");
    if (d.entries > ZIP_MAX_ENTRIES)
        return err_set(e, ERR_DATA_LIMIT, where, "the archive has %llu members, at most %d are read",
                       (unsigned long long)d.entries, ZIP_MAX_ENTRIES);
    *ret = d;
    return true;
}

/* ---- one member ---- */

/*
 * The sizes of a header: those that say 0xFFFFFFFF stand in the zip64 field, in this order.  The local header has
 * no offset (at == NULL).  A zip64 field may be longer than what is used.
 */
static bool zip64_sizes(const uint8_t *extra, uint64_t n, uint64_t *unpacked, uint64_t *packed, uint64_t *at)
{
    uint64_t *const wanted[] = { unpacked, packed, at };
    const uint8_t *field = NULL;
    uint64_t left = 0;
    while (n >= 4) {
        uint64_t size = le16(extra + 2);
        if (size > n - 4)
            return false;
        if (le16(extra) == EXTRA_ZIP64 && !field) {
            field = extra + 4;
            left = size;
        }
        extra += 4 + size;
        n -= 4 + size;
    }
    for (int i = 0; i < 3; i++) {
        if (!wanted[i] || *wanted[i] != NO32)
            continue;
        if (left < 8)
            return false;
        *wanted[i] = le64(field);
        field += 8;
        left -= 8;
    }
    return true;
}

static bool method_ok(unsigned method, unsigned flags, const char *where, struct err *e)
{
    if (flags & FLAG_ENCRYPTED)
        return err_set(e, ERR_DATA_FORMAT, where, "the archive is encrypted; send it without a password");
    if (flags & FLAG_PATCH || (method != STORED && method != DEFLATED))
        return err_set(e, ERR_DATA_FORMAT, where,
                       "compression method %u is not read; use np.savez or np.savez_compressed", method);
    return true;
}

/* The local header at entry->start must say what the central one said; sets entry->data. */
static bool read_local(const struct mapping *file, uint64_t limit, const uint8_t *central, struct zip_entry *entry,
                       const char *where, struct err *e)
{
    if (entry->start > limit || limit - entry->start < LOCAL_SIZE)
        return damaged(where, e, "a member lies outside the file");
    const uint8_t *p = file->data + entry->start;
    uint64_t head = LOCAL_SIZE + (uint64_t)le16(p + 26) + le16(p + 28), left = limit - entry->start;
    if (le32(p) != LOCAL_SIG || head > left || entry->packed > left - head)
        return damaged(where, e, "a member lies outside the file or has no header");
    uint64_t unpacked = le32(p + 22), packed = le32(p + 18);
    if (!zip64_sizes(p + LOCAL_SIZE + le16(p + 26), le16(p + 28), &unpacked, &packed, NULL))
        return damaged(where, e, "an extra field is not valid");
    /* A writer that could not seek back puts zeros here and the truth behind the data. */
    bool later = le16(p + 6) & FLAG_DESCRIPTOR && unpacked == 0 && packed == 0 && le32(p + 14) == 0;
    if (le16(p + 26) != entry->name_size || memcmp(p + LOCAL_SIZE, entry->name, entry->name_size) != 0
        || le16(p + 6) != le16(central + 8) || le16(p + 8) != le16(central + 10)
        || (!later && (unpacked != entry->unpacked || packed != entry->packed || le32(p + 14) != entry->crc)))
        return damaged(where, e, "the two headers of a member differ");
    entry->data = p + head;
    return true;
}

/* The central header at p, of which `left` bytes exist; *ret_size is what it takes. */
static bool read_central(const struct mapping *file, uint64_t limit, const uint8_t *p, uint64_t left, struct zip_entry *entry,
                         uint64_t *ret_size, const char *where, struct err *e)
{
    if (left < CENTRAL_SIZE || le32(p) != CENTRAL_SIG)
        return damaged(where, e, "the zip directory is not valid");
    uint64_t size = CENTRAL_SIZE + (uint64_t)le16(p + 28) + le16(p + 30) + le16(p + 32);
    if (size > left || le16(p + 34) != 0)
        return damaged(where, e, "the zip directory is not valid");
    if (!method_ok(le16(p + 10), le16(p + 8), where, e))
        return false;
    *entry = (struct zip_entry){
        .name = p + CENTRAL_SIZE, .name_size = le16(p + 28), .crc = le32(p + 16), .deflated = le16(p + 10) == DEFLATED,
        .packed = le32(p + 20), .unpacked = le32(p + 24), .start = le32(p + 42),
    };
    if (!zip64_sizes(p + CENTRAL_SIZE + entry->name_size, le16(p + 30), &entry->unpacked, &entry->packed, &entry->start))
        return damaged(where, e, "an extra field is not valid");
    if (!entry->deflated && entry->packed != entry->unpacked)
        return damaged(where, e, "a stored member has two sizes");
    *ret_size = size;
    return read_local(file, limit, p, entry, where, e);
}

/* Of the systems that put a file's mode into the upper half of a directory entry's attributes. */
static bool is_special(const uint8_t *central)
{
    enum { UNIX = 3, DARWIN = 19, TYPE = 0170000, FOLDER = 0040000, FILE_ = 0100000 };
    unsigned type = le16(central + 40) & TYPE, system = central[5];
    return (system == UNIX || system == DARWIN) && type != 0 && type != FOLDER && type != FILE_;
}

/* Nothing here follows a link; but what it leads to was meant, and is not there. */
static bool refuse_special(struct arena *mem, const struct zip_entry *entry, const char *where, struct err *e)
{
    const char *name = array_name(mem, entry->name, entry->name_size, where, e);
    return name && err_set(e, ERR_DATA_FORMAT, name, "this member of the archive is a link or a device, not a file; pack the file itself");
}

/* ---- all of them ---- */

static int by_start(const void *a, const void *b)
{
    uint64_t x = ((const struct zip_entry *)a)->start, y = ((const struct zip_entry *)b)->start;
    return (x > y) - (x < y);
}

static bool check_together(const struct zip *z, const struct mapping *file, const char *where, struct err *e)
{
    uint64_t total = 0, free_from = 0;
    for (size_t i = 0; i < z->n; i++) {
        const struct zip_entry *entry = &z->entries[i];
        if (entry->start < free_from)
            return damaged(where, e, "members of the archive overlap");
        free_from = (uint64_t)(entry->data - file->data) + entry->packed;
        if (__builtin_add_overflow(total, entry->unpacked, &total))
            return damaged(where, e, "the sizes of the members overflow");
    }
    if (total > ZIP_GRACE && (total - ZIP_GRACE) / ZIP_MAX_RATIO > file->size)
        return err_set(e, ERR_DATA_LIMIT, where,
                       "%llu bytes unpack to %llu, more than %d times as much; save the arrays with np.savez instead",
                       (unsigned long long)file->size, (unsigned long long)total, ZIP_MAX_RATIO);
    return true;
}

bool zip_open(struct arena *mem, const struct mapping *file, const char *where, struct zip *ret, struct err *e)
{
    struct directory d = { 0 };
    if (!find_directory(file, where, &d, e))
        return false;
    struct zip z = { arena_array(mem, d.entries, sizeof *z.entries, e), (size_t)d.entries };
    if (!z.entries)
        return false;
    uint64_t at = d.at, end = d.at + d.size, size = 0;
    for (size_t i = 0; i < z.n; i++, at += size) {
        if (!read_central(file, d.at, file->data + at, end - at, &z.entries[i], &size, where, e))
            return false;
        if (is_special(file->data + at))
            return refuse_special(mem, &z.entries[i], where, e);
    }
    if (at != end)
        return damaged(where, e, "the zip directory has more bytes than members");
    qsort(z.entries, z.n, sizeof *z.entries, by_start);
    if (!check_together(&z, file, where, e))
        return false;
    *ret = z;
    return true;
}

/* ---- reading ---- */

bool zip_start(struct zip_reader *r, const struct zip_entry *entry, const char *where, struct err *e)
{
    *r = (struct zip_reader){ .entry = entry, .where = where, .left = entry->unpacked, .crc = (uint32_t)crc32(0, NULL, 0) };
    if (entry->deflated && inflateInit2(&r->z, -MAX_WBITS) != Z_OK)
        return err_set(e, ERR_MEMORY, where, "no memory to unpack the member");
    r->z.next_in = (Bytef *)(uintptr_t)entry->data;
    return true;
}

/* At most n bytes (and no more than zlib's 32-bit counters hold) to `to`; 0 means damage. */
static uint64_t inflate_some(struct zip_reader *r, uint8_t *to, uint64_t n)
{
    enum { PIECE = 1 << 30 };
    uint64_t in = (uint64_t)(r->entry->data + r->entry->packed - r->z.next_in);
    uInt out = (uInt)(n < PIECE ? n : PIECE);
    r->z.avail_in = (uInt)(in < PIECE ? in : PIECE);
    r->z.next_out = to;
    r->z.avail_out = out;
    int status = inflate(&r->z, Z_NO_FLUSH);
    return status == Z_OK || status == Z_STREAM_END ? out - r->z.avail_out : 0;
}

/* Takes n bytes off the member's account. */
static bool claim(struct zip_reader *r, uint64_t n, struct err *e)
{
    if (n > r->left)
        return damaged(r->where, e, "a member is shorter than its array");
    r->left -= n;
    return true;
}

bool zip_skim(struct zip_reader *r, uint64_t n, struct err *e)
{
    if (!claim(r, n, e))
        return false;
    r->crc = (uint32_t)crc32_z(r->crc, r->z.next_in, (size_t)n);
    r->z.next_in += n;
    return true;
}

bool zip_read(struct zip_reader *r, void *to, uint64_t n, struct err *e)
{
    if (!r->entry->deflated) {
        const uint8_t *from = r->z.next_in;
        bool ok = zip_skim(r, n, e);
        if (ok && n)
            memcpy(to, from, (size_t)n);
        return ok;
    }
    if (!claim(r, n, e))
        return false;
    for (uint8_t *at = to; n;) {
        uint64_t got = inflate_some(r, at, n);
        if (got == 0)
            return damaged(r->where, e, "a member's compressed data is not valid");
        r->crc = (uint32_t)crc32_z(r->crc, at, (size_t)got);
        at += got;
        n -= got;
    }
    return true;
}

const uint8_t *zip_at(const struct zip_reader *r) { return r->z.next_in; }

/* A deflated stream must say that it is over, with nothing behind it. */
static bool stream_is_over(struct zip_reader *r)
{
    uint8_t more;
    if (!r->entry->deflated)
        return true;
    uint64_t in = (uint64_t)(r->entry->data + r->entry->packed - r->z.next_in);
    r->z.avail_in = (uInt)(in < NO16 ? in : NO16);
    r->z.next_out = &more;
    r->z.avail_out = 1;
    return inflate(&r->z, Z_NO_FLUSH) == Z_STREAM_END && r->z.avail_out == 1
        && r->z.next_in == r->entry->data + r->entry->packed;
}

bool zip_end(struct zip_reader *r, struct err *e)
{
    if (r->left != 0 || !stream_is_over(r))
        return damaged(r->where, e, "a member is longer than its array");
    if (r->crc != r->entry->crc)
        return damaged(r->where, e, "a member's checksum does not fit");
    return true;
}

void zip_stop(struct zip_reader *r)
{
    if (r->entry->deflated)
        inflateEnd(&r->z);
}
