/*
 * http_watch.h - who waits for events of a job, and one thread that tells them.
 *
 * Storage calls watch_touched() after every commit that added an event, and watch_revoked() when a right was taken; nothing here polls.
 * A watcher is a reader of a stream (api/stream.h) or a request that waits for the next event (a long poll).  It is one thread's at a
 * time:
 *
 *          watch_sleep()                        wake()
 *   owner ---------------> the watch's thread ---------> owner
 *
 * The thread wakes a reader when there is text for it (events, or a comment when there has been nothing for a while) or the stream
 * has ended; a waiting request when there is an event, or its time is over.  All are woken when the service drains.
 *
 * A watcher whose right may have ended is `doubted`: at first, when storage tells that its token or session is gone, and when the time has come
 * that the last look foresaw.  It hears nothing before it was looked at again, and nothing more if the right has ended.
 */
#ifndef SERVER_HTTP_WATCH_H
#define SERVER_HTTP_WATCH_H

#include "api/stream.h"

#include <stdint.h>

struct watch;

struct watcher {
    /* set by the owner before watch_add() */
    struct stream stream;
    int64_t until_us;                       /* of a request that waits: on clock_mono_us(); 0: a reader */
    void (*wake)(struct watcher *w);        /* called by the thread, without locks; w may be freed in it if watch_remove() was called */
    void *owner;

    /* the owner's and the thread's in turn */
    struct buf text;                        /* what the reader is to get */
    bool more;                              /* there is more than that */
    bool over;                              /* nothing follows the text */

    /* the watch's */
    struct watcher *next, **at;             /* its bucket */
    struct watcher *next_ready;
    bool asleep, touched, due, doubted, queued;
    int64_t beat_us;                        /* when something must be said */
};

struct watch_limits {
    int watchers;                           /* at a time; of one token: half of them */
    int beat_seconds;                       /* a reader that has heard nothing for so long gets a comment */
};
#define WATCH_LIMITS_DEFAULT ((struct watch_limits){ 2000, 15 })

/* Before threads exist that write to the store: it becomes the store's watch.  watch_stop() before the store is closed. */
struct watch *watch_start(struct store *store, struct watch_limits limits, struct err *e);
/* After watch_drain(), when nobody writes to the store any more; NULL is fine. */
void watch_stop(struct watch *w);

/* Ends everything that waits, now and later. */
void watch_drain(struct watch *w);

/* False with ERR_BUSY: there are too many; ERR_DRAINING. */
bool watch_add(struct watch *watch, struct watcher *w, struct err *e);
/* By the owner, when it has the watcher. */
void watch_remove(struct watch *watch, struct watcher *w);

/*
 * Gives the watcher to the thread.  suspend(), if not NULL, is called before that can have any consequence.
 */
void watch_sleep(struct watch *watch, struct watcher *w, void (*suspend)(struct watcher *w));

#endif
