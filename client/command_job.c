/* command_job.c - `repquantctl status`, `wait`, `events`, `download`, `cancel`: one job, as it is and as it ends. */
#include "client/fetch.h"
#include "client/show.h"
#include "client/watch.h"

#include <stdio.h>
#include <string.h>

static json_t *get(struct client *c, const char *suffix)
{
    char path[160];
    return job_path(c, c->o.words[0], suffix, path, sizeof path) && client_open(c) ? http_get(&c->service, path, &c->f) : NULL;
}

int command_status(struct client *c)
{
    json_t *doc = c->o.nwords ? get(c, "") : client_open(c) ? http_get(&c->service, "/v1/jobs?limit=20", &c->f) : NULL;
    if (!doc)
        return client_failed(c);
    if (!c->o.json)
        (c->o.nwords ? show_job : show_jobs)(stdout, doc);
    return client_json(c, doc, EXIT_DONE);
}

int command_wait(struct client *c)
{
    json_t *job = client_open(c) ? await_job(c, c->o.words[0]) : NULL;
    if (!job)
        return client_failed(c);
    if (!c->o.json)
        show_job(stdout, job);
    int exit = job_exit(job);
    return client_json(c, job, exit);
}

int command_cancel(struct client *c)
{
    char path[160];
    const char *id = c->o.words[0];
    json_t *job = job_path(c, id, "/cancel", path, sizeof path) && client_open(c) ? http_post(&c->service, path, NULL, false, &c->f) : NULL;
    if (!job)
        return client_failed(c);
    if (!c->o.json)
        show(stdout, "%s %s\n", text_of(job, "id"), text_of(job, "state"));
    return client_json(c, job, EXIT_DONE);
}

/* ---- events ---- */

static bool on_event(struct client *c, const json_t *event, void *arg)
{
    char line[600];
    json_t *all = arg;
    if (c->o.json) {
        json_array_append(all, (json_t *)(uintptr_t)event);
        return true;
    }
    show_event(event, line, sizeof line);
    show(stdout, "%5.0f  %s  %-20s %s\n", number_of(event, "seq"), text_of(event, "at"), text_of(event, "type"), line);
    (void)fflush(stdout);   /* whoever reads a pipe sees it now, and where nobody does any more we learn it */
    return !ferror(stdout);
}

int command_events(struct client *c)
{
    json_t *all = json_array();
    struct watch w = { .job = c->o.words[0], .after = c->o.after, .timeout_s = c->o.timeout_s, .event = on_event, .arg = all, .once = !c->o.follow };
    if (!client_open(c) || !watch_job(c, &w)) {
        json_decref(all);
        if (ferror(stdout))
            return EXIT_ENVIRONMENT;        /* as `events JOB --follow | head -1` wants it: without a word */
        if (c->f.exit == EXIT_INTERRUPTED)
            snprintf(c->f.text, sizeof c->f.text, "interrupted; `repquantctl events %s --follow --after %lld` goes on", c->o.words[0], (long long)w.after);
        return client_failed(c);
    }
    return client_json(c, json_pack("{s:o, s:I}", "data", all, "last_seq", (json_int_t)w.after), EXIT_DONE);
}

int command_download(struct client *c)
{
    const char *id = c->o.words[0], *folder = c->o.output ? c->o.output : id;
    char path[160];
    json_t *files = job_path(c, id, "", path, sizeof path) && client_open(c) ? fetch_results(c, id, folder) : NULL;
    if (!files)
        return client_failed(c);
    for (size_t i = 0; i < json_array_size(files) && !c->o.json; i++)
        show(stdout, "%s\n", text_of(json_array_get(files, i), "path"));
    return client_json(c, json_pack("{s:s, s:o}", "job_id", id, "files", files), EXIT_DONE);
}
