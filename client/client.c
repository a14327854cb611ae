#include "client/client.h"

#include "client/account.h"
#include "client/show.h"

#include <string.h>

static void on_waiting(void *arg, const struct failure *why)
{
    struct client *c = arg;
    show_note(c, "%s [%s]; trying again", why->what[0] ? why->what : why->text, why->code);
}

bool client_open(struct client *c)
{
    enum { PATIENCE_S = 60 };
    c->service.patience_ms = (c->o.patience_s >= 0 ? c->o.patience_s : PATIENCE_S) * 1000;
    c->service.waiting = on_waiting;
    c->service.arg = c;
    return account_load(c->o.url, c->o.ca, &c->service, &c->f) && service_open(&c->service, &c->f);
}

int client_json(struct client *c, json_t *doc, int exit)
{
    if (c->o.json && doc && (json_dumpf(doc, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) != 0 || fputc('\n', stdout) == EOF))
        exit = EXIT_ENVIRONMENT;
    json_decref(doc);
    return exit;
}

int client_failed(struct client *c)
{
    show_bar_end(c);
    fail(&c->f, EXIT_ENVIRONMENT, "client.answer", c->service.url, "the answer is not what a repquantd gives; is this the URL of one?");
    if (c->o.json)
        return client_json(c, failure_json(&c->f), c->f.exit);
    show_failure(stderr, &c->f);
    return c->f.exit;
}

bool id_ok(const char *id, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(id, prefix, n) == 0 && strlen(id) <= 60 && id[n] && !id[n + strspn(id + n, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")];
}

bool job_path(struct client *c, const char *id, const char *suffix, char *ret, size_t size)
{
    if (!id_ok(id, "job_"))
        return fail(&c->f, EXIT_USAGE, "client.usage", id, "this is not a job's id; they look like job_01JD8Z6W3V7QK5T9N2M4X8C0RB");
    snprintf(ret, size, "/v1/jobs/%s%s", id, suffix);
    return true;
}
