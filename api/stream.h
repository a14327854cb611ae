/*
 * stream.h - a job's events as they happen, for one reader: what it has, and what comes next.
 *
 * Without threads and without HTTP; the server decides when to ask (server/http_watch.h).  The text is what
 * EventSource reads: `id` is the event's seq, `event` its type, `data` the same object as in the JSON list.
 */
#ifndef API_STREAM_H
#define API_STREAM_H

#include "core/base/buf.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "storage/result.h"

struct stream {
    char team[TEAM_SIZE], job[ID_SIZE];
    char token[ID_SIZE], session[ID_SIZE];      /* whose right to read it is; "": nobody asks, no session */
    int64_t right_ends;         /* when that ends by itself, as far as is known; 0: never */
    int64_t after;              /* seq of the last event the reader has */
    bool ended;                 /* that was the last event there will be */
    bool lines;                 /* of the job's log (joblog.h) instead of server-sent events */
    enum log_level least;       /* of these lines */
};

/* The most bytes stream_next() makes of a single event, and the most it adds to that once it has some. */
enum { STREAM_EVENT_MAX = 64 << 10, STREAM_ENOUGH = 4 << 10 };

/*
 * Appends the next events, which moves `after` on, and sets `ended` behind the job's last.  Nothing appended: there are none yet.
 * *ret_more: there are more than were appended.  A job that has been removed is ERR_NOT_FOUND.
 */
bool stream_next(struct store *store, struct stream *s, struct buf *out, bool *ret_more, struct err *e);

/* Whether the reader still may; sets right_ends.  ERR_AUTH_REQUIRED; another code: that cannot be found out. */
bool stream_allowed(struct store *store, struct stream *s, struct err *e);

/* events.c: answers with what comes behind like->after, in like's form; *ret_nothing: nothing does or will, and nothing is answered. */
struct app;
struct request;
struct reply;
bool reply_stream(struct app *app, const struct request *req, const struct stream *like, const char *type, struct reply *reply,
                  bool *ret_nothing, struct err *e);

json_t *event_json(const struct event *event);

/* Whether nothing follows this event. */
bool event_is_last(const struct event *event);

#endif
