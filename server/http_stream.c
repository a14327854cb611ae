/*
 * http_stream.c - the library asks for the body piece by piece; when there is none, its connection sleeps.
 *
 *   on_read     text left: a piece of it; none: suspend, and give the watcher to the watch's thread
 *   wake        on that thread, when there is text: resume, whereupon the library calls on_read again
 *   on_free     the response is gone, because the stream has ended or the reader has
 *
 * A suspended connection notices nothing, so a reader that has gone is found out by the next thing said to it.
 */
#include "server/http_stream.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BLOCK = 512, PAGE = 4096 };       /* BLOCK: of answers to HTTP/1.0; else the library lends the rest of its connection's memory */

struct reader {
    struct watcher w;           /* first: the watch hands it back */
    struct watch *watch;
    struct MHD_Connection *connection;
    size_t taken;               /* of w.text */
};

static void suspend(struct watcher *w) { MHD_suspend_connection(((struct reader *)w)->connection); }
static void wake(struct watcher *w) { MHD_resume_connection(((struct reader *)w)->connection); }

/*
 * The library has written zeros all over its memory before it lends it, which makes the kernel provide it.  A reader that sleeps needs
 * none: 1,000 of them would have 32 MB.  What is in it is nobody's while we have it.
 */
static void give_back(char *p, size_t n)
{
    uintptr_t from = ((uintptr_t)p + PAGE - 1) / PAGE * PAGE, to = ((uintptr_t)p + n) / PAGE * PAGE;
    if (to > from)
        madvise((void *)from, to - from, MADV_DONTNEED);
}

static ssize_t on_read(void *cls, uint64_t at, char *out, size_t room)
{
    struct reader *r = cls;
    size_t left = r->w.text.n - r->taken, n = left < room ? left : room;
    (void)at;
    if (n) {
        memcpy(out, r->w.text.p + r->taken, n);
        r->taken += n;
    }
    if (r->taken == r->w.text.n) {
        buf_release(&r->w.text);
        r->taken = 0;
    }
    if (n)
        return (ssize_t)n;
    if (r->w.over)
        return MHD_CONTENT_READER_END_OF_STREAM;
    give_back(out, room);
    watch_sleep(r->watch, &r->w, suspend);
    return 0;
}

static void on_free(void *cls)
{
    struct reader *r = cls;
    watch_remove(r->watch, &r->w);
    free(r);
}

struct MHD_Response *http_stream(struct watch *watch, const struct stream *stream, struct MHD_Connection *c, struct err *e)
{
    struct reader *r = calloc(1, sizeof *r);
    if (!r) {
        err_sys(e, "events", "follow");
        return NULL;
    }
    *r = (struct reader){ .w = { .stream = *stream, .wake = wake }, .watch = watch, .connection = c };
    if (!watch_add(watch, &r->w, e)) {
        free(r);
        return NULL;
    }
    struct MHD_Response *resp = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, on_read, r, on_free);
    if (resp)
        return resp;
    on_free(r);
    err_set(e, ERR_MEMORY, "events", "no memory for a stream");
    return NULL;
}
