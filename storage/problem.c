#include "storage/problem.h"

#include "core/base/json.h"

char *problem_text(const struct err *e)
{
    json_t *doc = json_pack("{s:s, s:s, s:i, s:s, s:s, s:b}", "code", err_slug(e->code), "title", err_title(e->code),
                            "status", err_http_status(e->code), "detail", e->text, "where", e->where,
                            "retryable", (int)err_retryable(e->code));
    char *text = doc ? json_text(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    return text;
}
