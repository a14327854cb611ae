#include "server/http_answer.h"

#include "core/base/metric.h"

#include <microhttpd.h>
#include <stdlib.h>

enum { LARGE = 64 << 10 };

/* A large answer until it is sent or its reader has gone. */
struct held {
    struct answers *all;
    char *text;
    int64_t n;
};

bool http_answer_large(const struct reply *reply) { return reply->fd < 0 && reply->text && reply->size >= LARGE; }

/* The number before. */
static int64_t add(struct answers *all, int64_t n)
{
    metric_add(METRIC_ANSWER_BYTES, n);
    return atomic_fetch_add(&all->held, n);
}

static void on_sent(void *cls)
{
    struct held *h = cls;
    add(h->all, -h->n);
    free(h->text);
    free(h);
}

static struct MHD_Response *of_large(struct answers *all, struct reply *reply, bool always)
{
    struct held *h = malloc(sizeof *h);
    if (!h)
        return NULL;
    *h = (struct held){ .all = all, .text = reply->text, .n = (int64_t)reply->size };
    struct MHD_Response *resp = NULL;
    if (add(all, h->n) + h->n <= all->max || always)
        resp = MHD_create_response_from_buffer_with_free_callback_cls(reply->size, h->text, on_sent, h);
    if (resp) {
        reply->text = NULL;
        return resp;
    }
    add(all, -h->n);
    free(h);
    return NULL;
}

struct MHD_Response *http_answer(struct answers *all, struct reply *reply, bool always)
{
    struct MHD_Response *resp;
    if (http_answer_large(reply))
        return of_large(all, reply, always);
    if (reply->fd >= 0) {
        resp = MHD_create_response_from_fd_at_offset64(reply->length, reply->fd, reply->offset);
        if (resp)
            reply->fd = -1;                 /* the response closes it */
        return resp;
    }
    if (reply->text) {
        resp = MHD_create_response_from_buffer(reply->size, reply->text, MHD_RESPMEM_MUST_FREE);
        if (resp)
            reply->text = NULL;
        return resp;
    }
    const char *bytes = reply->borrowed ? reply->borrowed : "";
    return MHD_create_response_from_buffer(reply->size, (void *)(uintptr_t)bytes, MHD_RESPMEM_PERSISTENT);
}
