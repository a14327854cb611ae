#include "api/stream.h"

#include "api/joblog.h"
#include "api/rows.h"
#include "storage/job.h"
#include "storage/session.h"

#include <stdlib.h>
#include <string.h>

json_t *event_json(const struct event *event)
{
    return json_pack("{s:I, s:o, s:s, s:s*, s:o}", "seq", (json_int_t)event->seq, "at", row_time(event->at), "type", event->type,
                     "trace_id", *event->trace ? event->trace : NULL, "data", row_stored(event->data));
}

bool event_is_last(const struct event *event)
{
    enum job_state state;
    return strncmp(event->type, "job.", 4) == 0 && job_state_parse(event->type + 4, &state) && job_state_terminal(state);
}

/* Compact JSON holds no line feed, so it is one line of data. */
static bool add_event(struct buf *out, const struct event *event)
{
    json_t *json = event_json(event);
    char *text = json ? json_text(json, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(json);
    if (text)
        buf_printf(out, "id: %lld\nevent: %s\ndata: %s\n\n", (long long)event->seq, event->type, text);
    free(text);
    return text && !out->bad;
}

bool stream_next(struct store *store, struct stream *s, struct buf *out, bool *ret_more, struct err *e)
{
    enum { AT_ONCE = 16 };
    struct event_list list = { 0 };
    bool ok = event_list(store, s->team, s->job, s->after, AT_ONCE, &list, e);
    size_t start = out->n, i = 0;
    for (; ok && i < list.n && out->n - start < STREAM_ENOUGH; i++) {
        ok = (s->lines ? joblog_add(out, &list.items[i], s->least) : add_event(out, &list.items[i])) || err_set(e, ERR_MEMORY, s->job, "no memory for an event of %zu bytes", strlen(list.items[i].data));
        s->after = list.items[i].seq;
        s->ended = event_is_last(&list.items[i]);
    }
    *ret_more = i < list.n || list.more;
    event_list_release(&list);
    return ok;
}

bool stream_allowed(struct store *store, struct stream *s, struct err *e)
{
    return !s->token[0] || right_valid(store, s->team, s->token, s->session, &s->right_ends, e);
}
