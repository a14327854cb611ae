/*
 * store.c - LOCKING  s->mu guards the counters and the list of free extents; reads and writes
 * of the file and of held memory happen outside it, as every held tensor has one owner.
 */
#include "core/sweep/store.h"

#include "core/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct extent { uint64_t at, bytes; };

struct store {
    pthread_mutex_t mu;
    const char *dir;
    uint64_t budget, resident, peak, spilled;
    int fd;                        /* -1 until the first spill */
    uint64_t end;                  /* of the spill file */
    struct extent *free;           /* holes in it, reused on an exact fit: streams have few sizes */
    size_t n_free, room;
};

struct store *store_new(uint64_t budget, const char *dir, struct err *e)
{
    struct store *s = calloc(1, sizeof *s);
    if (!s) {
        err_sys(e, "store", "allocate");
        return NULL;
    }
    pthread_mutex_init(&s->mu, NULL);
    s->dir = dir;
    s->budget = budget;
    s->fd = -1;
    return s;
}

void store_free(struct store *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    free(s->free);
    pthread_mutex_destroy(&s->mu);
    free(s);
}

/* Takes room in memory if the budget has it. */
static bool admit(struct store *s, uint64_t bytes)
{
    pthread_mutex_lock(&s->mu);
    bool fits = bytes <= s->budget && s->resident <= s->budget - bytes;
    if (fits) {
        s->resident += bytes;
        s->peak = s->resident > s->peak ? s->resident : s->peak;
    }
    pthread_mutex_unlock(&s->mu);
    return fits;
}

static void leave(struct store *s, uint64_t bytes)
{
    pthread_mutex_lock(&s->mu);
    s->resident -= bytes;
    pthread_mutex_unlock(&s->mu);
}

/* With s->mu held. */
static bool open_file(struct store *s, struct err *e)
{
    if (s->fd < 0)
        s->fd = open(s->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return s->fd >= 0 || err_sys(e, s->dir, "create a spill file in");
}

static bool place(struct store *s, uint64_t bytes, uint64_t *ret_at, struct err *e)
{
    pthread_mutex_lock(&s->mu);
    bool ok = open_file(s, e);
    size_t i = 0;
    while (i < s->n_free && s->free[i].bytes != bytes)
        i++;
    if (i < s->n_free) {
        *ret_at = s->free[i].at;
        s->free[i] = s->free[--s->n_free];
    } else {
        *ret_at = s->end;
        s->end += bytes;
    }
    s->spilled += bytes;
    pthread_mutex_unlock(&s->mu);
    return ok;
}

static bool spill(struct store *s, const char *data, uint64_t bytes, struct held *h, struct err *e)
{
    if (!place(s, bytes, &h->at, e))
        return false;
    for (uint64_t done = 0; done < bytes; ) {
        ssize_t n = pwrite(s->fd, data + done, bytes - done, (off_t)(h->at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_sys(e, "spill file", "write");
        done += (uint64_t)n;
    }
    return true;
}

bool store_put(struct store *s, const void *data, uint64_t bytes, struct held *ret, struct err *e)
{
    struct held h = { .bytes = bytes, .there = true };
    if (admit(s, bytes)) {
        h.mem = malloc(bytes ? bytes : 1);
        if (!h.mem) {
            leave(s, bytes);
            return err_set(e, ERR_MEMORY, "", "the system refused %llu bytes for activations; lower --memory", (unsigned long long)bytes);
        }
        memcpy(h.mem, data, bytes);
    } else if (!spill(s, data, bytes, &h, e)) {
        return false;
    }
    *ret = h;
    return true;
}

const void *store_get(struct store *s, const struct held *h, void **ret_temp, struct err *e)
{
    *ret_temp = NULL;
    if (h->mem)
        return h->mem;
    char *temp = malloc(h->bytes ? h->bytes : 1);
    for (uint64_t done = 0; temp && done < h->bytes; ) {
        ssize_t n = pread(s->fd, temp + done, h->bytes - done, (off_t)(h->at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            err_sys(e, "spill file", "read");
            free(temp);
            return NULL;
        }
        done += (uint64_t)n;
    }
    if (!temp)
        err_set(e, ERR_MEMORY, "", "the system refused %llu bytes for activations", (unsigned long long)h->bytes);
    *ret_temp = temp;
    return temp;
}

void store_drop(struct store *s, struct held *h)
{
    if (h->mem) {
        free(h->mem);
        leave(s, h->bytes);
    } else if (h->there) {
        pthread_mutex_lock(&s->mu);
        if (s->n_free == s->room) {
            size_t room = s->room ? 2 * s->room : 64;
            struct extent *more = realloc(s->free, room * sizeof *more);
            s->free = more ? more : s->free;
            s->room = more ? room : s->room;
        }
        if (s->n_free < s->room)       /* without memory the hole is merely not reused */
            s->free[s->n_free++] = (struct extent){ h->at, h->bytes };
        pthread_mutex_unlock(&s->mu);
    }
    *h = (struct held){ 0 };
}

void store_usage(struct store *s, uint64_t *ret_peak, uint64_t *ret_spilled)
{
    pthread_mutex_lock(&s->mu);
    *ret_peak = s->peak;
    *ret_spilled = s->spilled;
    pthread_mutex_unlock(&s->mu);
}
