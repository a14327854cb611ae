#include "storage/recent.h"

#include "storage/inner.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 256 };

struct recent {
    pthread_mutex_t mu;             /* guards the slots; a leaf */
    struct slot {
        uint64_t read_at;
        struct recent_key key;
        void *p;                    /* NULL: empty */
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

struct recent_key recent_key(const char *kind, const char *of, const char *asked)
{
    struct recent_key key;
    struct hash h;
    hash_init(&h);
    hash_add(&h, kind, strlen(kind) + 1);           /* with the NUL, so that nothing moves from one text into the next */
    hash_add(&h, of, strlen(of) + 1);
    hash_add(&h, asked, strlen(asked) + 1);
    hash_end(&h, key.digest);
    return key;
}

_Static_assert(SLOTS == 256, "a byte of the digest is a place");
static struct slot *slot_of(struct recent *r, const struct recent_key *key) { return &r->slot[key->digest[0]]; }

static void *copy_of(const void *p, size_t n)
{
    void *copy = malloc(n ? n : 1);
    if (copy)
        memcpy(copy, p, n);
    return copy;
}

uint64_t recent_now(struct store *s) { return db_commits(s->db); }

void recent_put(struct store *s, const struct recent_key *key, uint64_t read_at, const void *p, size_t n)
{
    void *copy = n <= RECENT_BYTES_MAX ? copy_of(p, n) : NULL;
    if (!copy)
        return;
    pthread_mutex_lock(&s->recent->mu);
    struct slot *slot = slot_of(s->recent, key);
    void *old = slot->p;
    slot->key = *key;
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

void *recent_get(struct store *s, const struct recent_key *key, size_t *ret_n)
{
    void *copy = NULL;
    pthread_mutex_lock(&s->recent->mu);
    struct slot *slot = slot_of(s->recent, key);
    if (slot->p && slot->read_at == db_commits(s->db) && hash_equal(slot->key.digest, key->digest) && (copy = copy_of(slot->p, slot->n)))
        *ret_n = slot->n;
    pthread_mutex_unlock(&s->recent->mu);
    return copy;
}
