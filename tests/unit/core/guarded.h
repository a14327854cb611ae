/* guarded.h - bytes that end where nothing may be read: who reads beyond them is stopped by SIGSEGV, with a sanitizer or without. */
#ifndef TESTS_UNIT_CORE_GUARDED_H
#define TESTS_UNIT_CORE_GUARDED_H

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

struct guarded {
    uint8_t *p;             /* a copy of the bytes, aligned to nothing */
    void *map;
    size_t size;
};

static inline struct guarded guarded(const void *p, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (n + page - 1) / page * page;
    struct guarded g = { .size = room + page };
    g.map = mmap(NULL, g.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect((char *)g.map + room, page, PROT_NONE), 0);
    g.p = (uint8_t *)g.map + room - n;
    if (n)
        memcpy(g.p, p, n);
    return g;
}

static inline void guarded_release(struct guarded *g) { munmap(g->map, g->size); }

#endif
