#include "storage/recent.h"

#include "core/base/hash.h"
#include "storage/inner.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 256 };

struct recent {
    pthread_mutex_t mu;             /* guards the slots; a leaf */
    struct slot {
        uint64_t read_at;
        char key[RECENT_KEY_SIZE];  /* "": empty */
        void *p;
        size_t n;
    } slot[SLOTS];
};

struct recent *recent_new(void)
{
    struct recent *r = calloc(1, sizeof *r);
    if (r)
        pthread_mutex_init(&r->mu, NULL);
    return r;
}

void recent_free(struct recent *r)
{
    if (!r)
        return;
    for (int i = 0; i < SLOTS; i++)
        free(r->slot[i].p);
    pthread_mutex_destroy(&r->mu);
    free(r);
}

static struct slot *slot_of(struct recent *r, const char *key) { return &r->slot[hash_name(key) % SLOTS]; }

static void *copy_of(const void *p, size_t n)
{
    void *copy = malloc(n ? n : 1);
    if (copy)
        memcpy(copy, p, n);
    return copy;
}

uint64_t recent_now(struct store *s) { return db_commits(s->db); }

void recent_put(struct store *s, const char *key, uint64_t read_at, const void *p, size_t n)
{
    void *copy = n <= RECENT_BYTES_MAX && strlen(key) < RECENT_KEY_SIZE ? copy_of(p, n) : NULL;
    if (!copy)
        return;
    pthread_mutex_lock(&s->recent->mu);
    struct slot *slot = slot_of(s->recent, key);
    void *old = slot->p;
    snprintf(slot->key, sizeof slot->key, "%s", key);
    slot->read_at = read_at;
    slot->p = copy;
    slot->n = n;
    pthread_mutex_unlock(&s->recent->mu);
    free(old);
}

void recent_sweep(struct store *s)
{
    uint64_t now = db_commits(s->db);
    pthread_mutex_lock(&s->recent->mu);
    for (int i = 0; i < SLOTS; i++) {
        struct slot *slot = &s->recent->slot[i];
        if (slot->read_at == now)
            continue;
        free(slot->p);
        slot->p = NULL;
    }
    pthread_mutex_unlock(&s->recent->mu);
}

void *recent_get(struct store *s, const char *key, size_t *ret_n)
{
    void *copy = NULL;
    pthread_mutex_lock(&s->recent->mu);
    struct slot *slot = slot_of(s->recent, key);
    if (slot->p && slot->read_at == db_commits(s->db) && strcmp(slot->key, key) == 0 && (copy = copy_of(slot->p, slot->n)))
        *ret_n = slot->n;
    pthread_mutex_unlock(&s->recent->mu);
    return copy;
}
