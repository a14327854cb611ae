#include "api/joblog.h"

#include "api/app.h"
#include "api/handlers.h"
#include "api/rows.h"
#include "api/serve.h"
#include "api/stream.h"
#include "storage/result.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TYPE "application/x-ndjson"
enum { LOG_MAX = 64 << 20 };

/* Whatever is not here is info. */
static enum log_level level_of(const char *type)
{
    static const struct { const char *type; enum log_level level; } known[] = {
        { "job.progress", LOG_DEBUG }, { "job.layer_completed", LOG_DEBUG }, { "job.warning", LOG_WARN }, { "job.failed", LOG_ERROR },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].type, type) == 0)
            return known[i].level;
    return LOG_INFO;
}

bool joblog_add(struct buf *out, const struct event *event, enum log_level least)
{
    enum log_level level = level_of(event->type);
    if (level < least)
        return true;
    json_t *json = json_pack("{s:o, s:s, s:I, s:s, s:s*, s:o}", "time", row_time(event->at), "level", log_level_name[level], "seq", (json_int_t)event->seq,
                             "event", event->type, "trace_id", *event->trace ? event->trace : NULL, "data", row_stored(event->data));
    char *text = json ? json_text(json, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(json);
    if (text)
        buf_printf(out, "%s\n", text);
    free(text);
    return text && !out->bad;
}

static bool take_level(const struct request *req, enum log_level *ret, struct err *e)
{
    const char *text = request_query(req, "level");
    return !text || log_level_parse(text, ret) || err_set(e, ERR_REQUEST_INVALID, "level", "\"level\" must be debug, info, warn or error");
}

static bool read_all(struct app *app, const struct request *req, int64_t after, enum log_level least, struct buf *out, struct err *e)
{
    enum { PAGE = 500 };
    bool ok = true, more = true;
    while (ok && more) {
        struct event_list list = { 0 };
        ok = event_list(app->store, req->who.team, req->param[0], after, PAGE, &list, e);
        for (size_t i = 0; ok && i < list.n; i++) {
            after = list.items[i].seq;
            ok = joblog_add(out, &list.items[i], least) || err_set(e, ERR_MEMORY, "logs", "no memory for the log; ask with after");
        }
        more = list.more;
        event_list_release(&list);
    }
    return ok;
}

static bool follow(struct app *app, const struct request *req, int64_t after, enum log_level least, struct reply *reply, struct err *e)
{
    bool nothing;
    if (!reply_stream(app, req, &(struct stream){ .after = after, .lines = true, .least = least }, TYPE, reply, &nothing, e))
        return false;
    if (nothing) {
        reply->type = TYPE;
        reply->text = strdup("");
    }
    return !nothing || reply->text || err_sys(e, "logs", "follow");
}

bool get_job_logs(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    int64_t after = 0;
    enum log_level least = LOG_DEBUG;
    const char *wish = request_query(req, "follow");
    struct buf out = BUF_INIT(LOG_MAX);
    if (!request_query_int(req, "after", 0, INT64_MAX, &after, e) || !take_level(req, &least, e))
        return false;
    if (wish && strcmp(wish, "true") != 0 && strcmp(wish, "false") != 0)
        return err_set(e, ERR_REQUEST_INVALID, "follow", "\"follow\" is true or false");
    if (wish && *wish == 't')
        return follow(app, req, after, least, reply, e);
    if (read_all(app, req, after, least, &out, e) && reply_part(req, reply, &out, e)) {
        reply->type = TYPE;
        return true;
    }
    buf_release(&out);
    return false;
}
