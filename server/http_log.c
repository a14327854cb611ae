#include "server/http_log.h"

#include "api/route.h"
#include "core/base/clock.h"
#include "core/base/log.h"

static enum log_level level_of(const struct request *req, const struct reply *reply, int status)
{
    bool probe = req->route && route_lists("/healthz /readyz", req->route->pattern);
    if (status >= 500 && reply->error.code != ERR_DRAINING)
        return LOG_ERROR;
    return probe && status == 200 ? LOG_DEBUG : LOG_INFO;
}

void http_log(const struct request *req, const struct reply *reply, int status, int64_t started_us, bool whole)
{
    const struct err *e = &reply->error;
    int64_t tenths = (clock_mono_us() - started_us) / 100;
    const struct log_field fields[] = {
        { .name = "method", .text = req->method ? req->method : "?" },
        { .name = "path", .text = req->target.path },
        { .name = "route", .text = req->route ? req->route->pattern : "" },
        { .name = "status", .number = status },
        { .name = "ms", .number = (double)tenths / 10 },
        { .name = "received", .number = (double)req->received },
        { .name = "request", .text = req->id },
        { .name = "trace", .text = req->trace },
        { .name = "token", .text = req->who.id },
        { .name = "peer", .text = req->peer },
        { .name = "end", .text = whole ? "" : "cut" },
        { .name = "error", .text = e->code ? err_slug(e->code) : "" },
        { .name = "where", .text = e->where },
        { .name = "detail", .text = e->text },
    };
    log_fields(level_of(req, reply, status), "http.request", fields, sizeof fields / sizeof *fields);
}
