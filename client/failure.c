#include "client/failure.h"

#include "core/base/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool (fail)(struct failure *f, int exit, const char *code, const char *where, const char *fmt, ...)
{
    va_list ap;
    if (f->exit)
        return false;
    f->exit = exit;
    snprintf(f->code, sizeof f->code, "%s", code);
    snprintf(f->where, sizeof f->where, "%s", where);
    va_start(ap, fmt);
    vsnprintf(f->text, sizeof f->text, fmt, ap);
    va_end(ap);
    return false;
}

bool (fail_errno)(struct failure *f, const char *where, const char *what)
{
    int error = errno;
    char text[96];
    bool input = error == ENOENT || error == ENOTDIR || error == EISDIR;
    return fail(f, input ? EXIT_INPUT : EXIT_ENVIRONMENT, "client.file", where, "%s: %s", what, strerror_r(error, text, sizeof text));
}

static void take_text(const json_t *doc, const char *key, char *ret, size_t size)
{
    const char *text = json_string_value(json_object_get(doc, key));
    if (text)
        snprintf(ret, size, "%s", text);
}

/* By code first: 403 is the token's fault or the quota's, and neither is the model's. */
static const struct {
    const char *prefix;
    int exit;
    const char *advice;
} families[] = {
    { "auth.required", EXIT_ENVIRONMENT, "run `repquantctl login`, or set REPQUANT_TOKEN to a token that is valid for this service" },
    { "auth.forbidden", EXIT_ENVIRONMENT, "ask an administrator of your team for a token with the role \"member\"" },
    { "auth.host", EXIT_ENVIRONMENT, "use the host name the service is known by in REPQUANT_URL, or let its operator add this one (--hosts)" },
    { "quota.exceeded", EXIT_ENVIRONMENT, "delete models, data sets or jobs that are no longer needed, or ask for a larger quota" },
    { "quota.rate", EXIT_ENVIRONMENT, "try again later; --patience gives it more time" },
    { "request.reference", EXIT_INPUT, "somebody has deleted it meanwhile; run the command again" },
    { "recipe.unknown", EXIT_INPUT, "" },
    { "recipe.", EXIT_INPUT, "correct the recipe; `repquant recipes NAME` prints one that is right" },
    { "dataset.", EXIT_INPUT, "" },
    { "model.", EXIT_INPUT, "" },
    { "target.", EXIT_INPUT, "" },
    { "storage.corrupt", EXIT_ENVIRONMENT, "submit it once more, with the files at hand: what has rotted is sent again, results are made again with --new" },
    { "worker.lost", EXIT_ENVIRONMENT, "submit it once more with --new; if that fails too, tell the service's operator" },
    { "client.", EXIT_ENVIRONMENT, "" },
};

static int family(const char *code)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strncmp(code, families[i].prefix, strlen(families[i].prefix)) == 0)
            return (int)i;
    return -1;
}

static bool may_repeat(long status)
{
    static const short repeatable[] = { 408, 423, 429, 502, 503, 504 };
    for (size_t i = 0; i < sizeof repeatable / sizeof *repeatable; i++)
        if (status == repeatable[i])
            return true;
    return false;
}

bool fail_problem(struct failure *f, long status, const json_t *doc)
{
    if (f->exit)
        return false;
    f->status = status;
    f->again = may_repeat(status);
    snprintf(f->what, sizeof f->what, "the service answered %ld", status);
    snprintf(f->code, sizeof f->code, "http.%ld", status);
    snprintf(f->text, sizeof f->text, "this is not how repquantd answers; is REPQUANT_URL right, and is a proxy between?");
    take_text(doc, "title", f->what, sizeof f->what);
    take_text(doc, "code", f->code, sizeof f->code);
    take_text(doc, "detail", f->text, sizeof f->text);
    take_text(doc, "where", f->where, sizeof f->where);
    take_text(doc, "pointer", f->where, sizeof f->where);
    take_text(doc, "request_id", f->request_id, sizeof f->request_id);
    int at = family(f->code);
    f->exit = at >= 0 ? families[at].exit : json_is_object(doc) && status < 500 && !f->again ? EXIT_INPUT : EXIT_ENVIRONMENT;
    return false;
}

const char *failure_advice(const struct failure *f)
{
    int at = family(f->code);
    if (at >= 0 && families[at].advice[0])
        return families[at].advice;
    if (f->again)
        return "try again later; --patience gives it more time";
    return f->status >= 500 ? "tell the service's operator, with the request id" : "";
}

/* Names of files may be any bytes, and what was cut may end within a character. */
static void put_text(json_t *doc, const char *key, const char *text)
{
    char mended[sizeof((struct failure *)0)->text];
    snprintf(mended, sizeof mended, "%s", text);
    if (text[0])
        json_object_set_new(doc, key, json_string(utf8_mend(mended)));
}

json_t *failure_json(const struct failure *f)
{
    char type[96];
    snprintf(type, sizeof type, "urn:repquant:problem:%s", f->code);
    json_t *doc = json_pack("{s:b, s:i}", "retryable", f->again, "exit", f->exit);
    put_text(doc, "type", type);
    put_text(doc, "code", f->code);
    put_text(doc, "title", f->what[0] ? f->what : "The command could not be carried out");
    put_text(doc, "detail", f->text);
    put_text(doc, f->where[0] == '/' && f->status ? "pointer" : "where", f->where);
    put_text(doc, "remedy", failure_advice(f));
    put_text(doc, "request_id", f->request_id);
    if (f->status)
        json_object_set_new(doc, "status", json_integer(f->status));
    return doc;
}
