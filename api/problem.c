#include "api/problem.h"

#include <stdio.h>
#include <string.h>

/* 507 and 503 say what the client can do about it; what else is ours is nobody's business. */
static const char *detail(const struct err *e, int status)
{
    switch (status) {
    case 507: return "the service has no space left for this; delete what is no longer needed, or ask its operator";
    case 503: return e->code == ERR_DRAINING ? "the service is shutting down; try again shortly"
                                             : "the service cannot take this right now; try again shortly";
    default: return status < 500 ? e->text : "the service failed; its log has the details under the request id";
    }
}

json_t *problem_json(const struct err *e, const char *instance, const char *request_id)
{
    int status = err_http_status(e->code);
    char type[96];
    snprintf(type, sizeof type, "urn:repquant:problem:%s", err_slug(e->code));
    json_t *doc = json_pack("{s:s, s:s, s:i, s:s, s:s, s:o, s:s, s:b}", "type", type, "title", err_title(e->code),
                            "status", status, "code", err_slug(e->code), "detail", detail(e, status),
                            "instance", json_mended(instance), "request_id", request_id,
                            "retryable", err_retryable(e->code));
    if (doc && e->where[0] && status < 500)
        json_object_set_new(doc, e->where[0] == '/' ? "pointer" : "where", json_string(e->where));
    return doc;
}
