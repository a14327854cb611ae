/* mutate_zip.c - an archive as a list of members, which is changed and written anew. */
#include "tests/fuzz/mutate.h"

#include "core/base/buf.h"
#include "core/data/bytes.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    LOCAL_SIG = 0x04034b50, CENTRAL_SIG = 0x02014b50, END_SIG = 0x06054b50, LOCAL_SIZE = 30, CENTRAL_SIZE = 46, END_SIZE = 22,
    MEMBERS = 24, NAME_MOST = 64, CONTENT_MOST = 1 << 16, DEFLATED = 8,
};

struct member {
    uint8_t *name, *content;        /* owned; room for NAME_MOST and CONTENT_MOST bytes */
    size_t name_n, content_n;
    bool deflated;
};

struct archive { struct member m[MEMBERS]; size_t n; };

static void archive_release(struct archive *a)
{
    for (size_t i = 0; i < a->n; i++) {
        free(a->m[i].name);
        free(a->m[i].content);
    }
}

/* ---- reading ---- */

static bool unpack(const uint8_t *p, size_t n, struct member *m)
{
    z_stream z = { .next_in = (Bytef *)(uintptr_t)p, .avail_in = (uInt)n, .next_out = m->content, .avail_out = CONTENT_MOST };
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
        return false;
    bool ok = inflate(&z, Z_FINISH) == Z_STREAM_END;
    m->content_n = CONTENT_MOST - z.avail_out;
    inflateEnd(&z);
    return ok;
}

/* The member whose central header is at p, and its local header in the file. */
static bool read_member(const uint8_t *file, size_t size, const uint8_t *p, struct member *m)
{
    size_t name_n = le16(p + 28), packed = le32(p + 20), at = le32(p + 42);
    if (at > size || size - at < LOCAL_SIZE || name_n > NAME_MOST)
        return false;
    size_t start = at + LOCAL_SIZE + le16(file + at + 26) + le16(file + at + 28);
    if (start > size || packed > size - start || packed > CONTENT_MOST)
        return false;
    m->deflated = le16(p + 10) == DEFLATED;
    m->name_n = name_n;
    memcpy(m->name, p + CENTRAL_SIZE, name_n);
    if (m->deflated)
        return unpack(file + start, packed, m);
    memcpy(m->content, file + start, m->content_n = packed);
    return true;
}

static bool archive_read(const uint8_t *file, size_t size, struct archive *a)
{
    if (size < END_SIZE || le32(file + size - END_SIZE) != END_SIG)
        return false;
    size_t at = le32(file + size - END_SIZE + 16), end = size - END_SIZE;
    while (at < end && a->n < MEMBERS) {
        const uint8_t *p = file + at;
        if (end - at < CENTRAL_SIZE || le32(p) != CENTRAL_SIG || le16(p + 28) > end - at - CENTRAL_SIZE)
            return false;
        struct member *m = &a->m[a->n++];
        *m = (struct member){ .name = malloc(NAME_MOST), .content = malloc(CONTENT_MOST) };
        if (!read_member(file, size, p, m))
            return false;
        at += CENTRAL_SIZE + (size_t)le16(p + 28) + le16(p + 30) + le16(p + 32);
    }
    return a->n > 0;
}

/* ---- writing ---- */

static void pack(const struct member *m, struct buf *ret)
{
    uint8_t room[1024];
    z_stream z = { .next_in = m->content, .avail_in = (uInt)m->content_n };
    if (!m->deflated)
        return buf_add(ret, m->content, m->content_n);
    if (deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return;
    int status = Z_OK;
    while (status == Z_OK) {
        z.next_out = room;
        z.avail_out = sizeof room;
        status = deflate(&z, Z_FINISH);
        buf_add(ret, room, sizeof room - z.avail_out);
    }
    deflateEnd(&z);
}

/* The fields that both headers have, from `p` on. */
static void put_both(uint8_t *p, const struct member *m, size_t packed)
{
    le_put(p, m->deflated ? DEFLATED : 0, 2);
    le_put(p + 6, crc32(0, m->content, (uInt)m->content_n), 4);
    le_put(p + 10, packed, 4);
    le_put(p + 14, m->content_n, 4);
    le_put(p + 18, m->name_n, 2);
}

static void put_member(const struct member *m, struct buf *out, struct buf *directory)
{
    struct buf packed = BUF_INIT(out->limit);
    uint8_t local[LOCAL_SIZE] = { 0 }, central[CENTRAL_SIZE] = { 0 };
    pack(m, &packed);
    le_put(local, LOCAL_SIG, 4);
    put_both(local + 8, m, packed.n);
    le_put(central, CENTRAL_SIG, 4);
    put_both(central + 10, m, packed.n);
    le_put(central + 42, out->n, 4);
    buf_add(directory, central, sizeof central);
    buf_add(directory, m->name, m->name_n);
    buf_add(out, local, sizeof local);
    buf_add(out, m->name, m->name_n);
    buf_add(out, packed.p, packed.n);
    out->bad |= packed.bad;
    buf_release(&packed);
}

static size_t archive_write(const struct archive *a, uint8_t *data, size_t max)
{
    struct buf out = BUF_INIT(max), directory = BUF_INIT(max);
    uint8_t end[END_SIZE] = { 0 };
    for (size_t i = 0; i < a->n; i++)
        put_member(&a->m[i], &out, &directory);
    le_put(end, END_SIG, 4);
    le_put(end + 8, a->n, 2);
    le_put(end + 10, a->n, 2);
    le_put(end + 12, directory.n, 4);
    le_put(end + 16, out.n, 4);
    buf_add(&out, directory.p, directory.n);
    buf_add(&out, end, sizeof end);
    size_t n = out.bad || directory.bad ? 0 : out.n;
    if (n)
        memcpy(data, out.p, n);
    buf_release(&out);
    buf_release(&directory);
    return n;
}

/* ---- changing ---- */

static void change_content(struct archive *a, struct member *m, unsigned *seed)
{
    enum { MORE = 1024 };
    static mutator *const inside[] = { mutate_npy, mutate_png, NULL };
    (void)a;
    size_t room = m->content_n + MORE < CONTENT_MOST ? m->content_n + MORE : CONTENT_MOST;
    m->content_n = mutate(inside, m->content, m->content_n, room, mutate_pick(seed, UINT32_MAX));
}

static void rename_it(struct archive *a, struct member *m, unsigned *seed)
{
    (void)a, (void)seed;
    m->name_n = LLVMFuzzerMutate(m->name, m->name_n, NAME_MOST);
}

static void drop(struct archive *a, struct member *m, unsigned *seed)
{
    struct member gone = *m;
    (void)seed;
    *m = a->m[--a->n];
    free(gone.name);
    free(gone.content);
}

static void repeat(struct archive *a, struct member *m, unsigned *seed)
{
    (void)seed;
    if (a->n == MEMBERS)
        return;
    struct member *copy = &a->m[a->n++];
    *copy = *m;
    copy->name = memcpy(malloc(NAME_MOST), m->name, m->name_n);
    copy->content = memcpy(malloc(CONTENT_MOST), m->content, m->content_n);
}

static void swap(struct archive *a, struct member *m, unsigned *seed)
{
    struct member *other = &a->m[mutate_pick(seed, a->n)], was = *m;
    *m = *other;
    *other = was;
}

static void other_method(struct archive *a, struct member *m, unsigned *seed)
{
    (void)a, (void)seed;
    m->deflated = !m->deflated;
}

size_t mutate_zip(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    static void (*const ways[])(struct archive *a, struct member *m, unsigned *seed) = {
        change_content, change_content, change_content, rename_it, drop, repeat, swap, other_method,
    };
    struct archive a = { .n = 0 };
    size_t n = 0;
    if (archive_read(data, size, &a)) {
        ways[mutate_pick(&seed, sizeof ways / sizeof *ways)](&a, &a.m[mutate_pick(&seed, a.n)], &seed);
        n = archive_write(&a, data, max);
    }
    archive_release(&a);
    return n;
}
