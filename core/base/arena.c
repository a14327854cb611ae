/*
 * arena.c - a list of chunks; small blocks share one, a large block gets its own.
 */
#include "core/base/arena.h"

#include "core/base/io.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 64, CHUNK = 256 << 10 };

struct chunk {
    struct chunk *next;
    uint64_t size, used;       /* of the bytes behind this header */
    void *heap;                /* what to free; NULL: in a scratch file */
};

struct arena {
    struct chunk *chunks;      /* the first one is the one being filled */
    uint64_t limit, used;
    const char *dir;           /* of scratch files; NULL: none */
};

_Static_assert(sizeof(struct chunk) <= ALIGN, "the header fits in front of the first block");

struct arena *arena_new(uint64_t limit)
{
    struct arena *a = calloc(1, sizeof *a);
    if (a)
        a->limit = limit;
    return a;
}

struct arena *arena_new_paged(uint64_t limit, const char *dir)
{
    struct arena *a = arena_new(limit);
    if (a)
        a->dir = dir;
    return a;
}

bool arena_paged(const struct arena *a, uint64_t n) { return a->dir && n >= ARENA_PAGED; }

void arena_free(struct arena *a)
{
    if (!a)
        return;
    while (a->chunks) {
        struct chunk *c = a->chunks;
        a->chunks = c->next;
        if (c->heap)
            free(c->heap);
        else
            munmap(c, (size_t)(ALIGN + c->size));
    }
    free(a);
}

/* calloc() knows which pages are zeros already: a large block is not touched before it is used. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
static struct chunk *heap_chunk(uint64_t size, bool zero, struct err *e)
{
    size_t all = (size_t)(2 * ALIGN + size);
    void *heap = zero ? calloc(1, all) : malloc(all);
    if (!heap) {
        err_set(e, ERR_MEMORY, "", "the system refused %llu bytes; free memory, or use smaller inputs or a machine with more",
                (unsigned long long)size);
        return NULL;
    }
    struct chunk *c = (void *)(((uintptr_t)heap + ALIGN - 1) / ALIGN * ALIGN);
    *c = (struct chunk){ .heap = heap };
    return c;       /* heap lies in *c: gcc's analyser loses it, as c is a number between */
}
#pragma GCC diagnostic pop

/* A chunk that blocks share is zeroed in any case. */
static struct chunk *chunk_add(struct arena *a, uint64_t n, bool zero, struct err *e)
{
    uint64_t size = n > CHUNK / 4 ? n : CHUNK;
    struct chunk *c = arena_paged(a, n) ? scratch_map(a->dir, ALIGN + size, e) : heap_chunk(size, zero || size != n, e);
    if (!c)
        return NULL;
    c->size = size;
    /* A block of its own goes behind the chunk being filled, so that chunk keeps its room. */
    if (size == n && a->chunks) {
        c->next = a->chunks->next;
        a->chunks->next = c;
    } else {
        c->next = a->chunks;
        a->chunks = c;
    }
    return c;
}

static void *block_add(struct arena *a, uint64_t n, bool zero, struct err *e)
{
    if (n > a->limit || a->limit - n < a->used + ALIGN) {
        err_set(e, ERR_MEMORY, "", "%llu more bytes would exceed the limit of %llu bytes; raise --memory or send a smaller model",
                (unsigned long long)n, (unsigned long long)a->limit);
        return NULL;
    }
    uint64_t rounded = (n + ALIGN - 1) / ALIGN * ALIGN;
    if (rounded == 0)
        rounded = ALIGN;
    struct chunk *c = a->chunks;
    if (!c || c->size - c->used < rounded)
        c = chunk_add(a, rounded, zero, e);
    if (!c)
        return NULL;
    char *block = (char *)c + ALIGN + c->used;
    c->used += rounded;
    a->used += rounded;
    return block;
}

void *arena_alloc(struct arena *a, uint64_t n, struct err *e) { return block_add(a, n, true, e); }

static void *array_add(struct arena *a, uint64_t count, uint64_t size, bool zero, struct err *e)
{
    uint64_t n;
    if (!__builtin_mul_overflow(count, size, &n))
        return block_add(a, n, zero, e);
    err_set(e, ERR_MEMORY, "", "%llu items of %llu bytes cannot be held", (unsigned long long)count, (unsigned long long)size);
    return NULL;
}

void *arena_array(struct arena *a, uint64_t count, uint64_t size, struct err *e) { return array_add(a, count, size, true, e); }
void *arena_scratch(struct arena *a, uint64_t count, uint64_t size, struct err *e) { return array_add(a, count, size, false, e); }

char *arena_strndup(struct arena *a, const char *s, uint64_t n, struct err *e)
{
    if (n == UINT64_MAX) {
        err_set(e, ERR_MEMORY, "", "a string is too long");
        return NULL;
    }
    char *copy = arena_alloc(a, n + 1, e);
    if (copy && n)
        memcpy(copy, s, (size_t)n);
    return copy;
}

char *arena_printf(struct arena *a, struct err *e, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return arena_strndup(a, text, n < 0 ? 0 : (uint64_t)n < sizeof text ? (uint64_t)n : sizeof text - 1, e);
}

uint64_t arena_used(const struct arena *a) { return a->used; }
