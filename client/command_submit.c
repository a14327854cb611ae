/*
 * command_submit.c - `repquantctl submit`: files to blobs, blobs to a model and data sets, those to a job.
 *
 * Running the same command twice makes one job: files are found by their digest, models and data sets by their files, and the job by an
 * Idempotency-Key that is the digest of its request; when the service has forgotten the key, by its being the same quantization (dedupe).
 */
#include "client/account.h"
#include "client/asset.h"
#include "client/fetch.h"
#include "client/show.h"
#include "client/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { ID_SIZE = 64, MAX_GONE = 100 };

/* ---- what is asked ---- */

/*
 * A name is looked up here, because what a team has saved under it may be another recipe tomorrow and the request's key is the digest of what is
 * asked.  Where the service shows none, it will say so itself.
 */
static json_t *recipe_of(struct client *c, const char *name)
{
    char path[96];
    if (!*name || strchr("._-", *name) || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != strlen(name)
        || snprintf(path, sizeof path, "/v1/recipes/%s", name) >= (int)sizeof path)
        return NULL;
    json_t *recipe = http_get(&c->service, path, &c->f);
    if (!recipe && (c->f.status == 403 || c->f.status == 404))
        c->f = (struct failure){ 0 };
    return recipe;
}

static json_t *read_recipe(struct client *c)
{
    const char *text = c->o.recipe;
    size_t n = strlen(text);
    if ((n > 5 && strcmp(text + n - 5, ".json") == 0) || strchr(text, '/'))
        return load_object(text, false, &c->f);
    json_t *recipe = recipe_of(c, text);
    if (recipe || c->f.exit)
        return recipe;
    json_t *name = json_string(text);
    if (!name)
        fail(&c->f, EXIT_USAGE, "client.usage", "--recipe", "the name is not UTF-8");
    return name;
}

static json_t *read_labels(struct client *c)
{
    json_t *labels = json_object();
    for (int i = 0; i < c->o.nlabels; i++) {
        const char *text = c->o.labels[i], *equals = strchr(text, '=');
        char *key = strndup(text, (size_t)(equals - text));
        json_t *value = json_string(equals + 1);
        if (!key || !value || json_object_get(labels, key) || json_object_set(labels, key, value) != 0)
            fail(&c->f, EXIT_USAGE, "client.usage", "--label", "\"%.80s\" is given twice or is not UTF-8", text);
        json_decref(value);
        free(key);
    }
    return labels;
}

static bool missing(struct client *c, const char *option)
{
    return fail(&c->f, EXIT_USAGE, "client.usage", option, "%s is missing; `repquantctl submit --help` tells what it is", option);
}

/* ---- the pieces ---- */

/* A path whose folder is written without links, dots and whatever else can be spelled in two ways. */
static bool plain_path(const char *path, char *ret, size_t size)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    char *real = folder ? realpath(folder, NULL) : NULL;
    int n = real ? snprintf(ret, size, "%s/%s", strcmp(real, "/") == 0 ? "" : real, slash ? slash + 1 : path) : -1;
    free(real);
    free(folder);
    return n >= 0 && (size_t)n < size;
}

/* Has it no part that leads elsewhere?  "a..b" is a name like any other. */
static bool leads_down(const char *path)
{
    for (size_t n; *path; path += n + (path[n] == '/')) {
        n = strcspn(path, "/");
        if (n == 0 || (n == 1 && path[0] == '.') || (n == 2 && path[0] == '.' && path[1] == '.'))
            return false;
    }
    return true;
}

static bool take_name_below(struct source *file, const char *path, const char *model)
{
    const char *slash = strrchr(model, '/');
    size_t n = slash ? (size_t)(slash - model) + 1 : 0;
    bool below = strncmp(path, model, n) == 0 && leads_down(path + n) && strlen(path + n) < sizeof file->name;
    if (below)
        snprintf(file->name, sizeof file->name, "%s", path + n);
    return below;
}

/* The model's other files are named by it: relative to its folder where they lie below it, by links, too, if that is how both are written. */
static void name_external(struct source *file, const char *model)
{
    char ours[4096], its[4096];
    if (!take_name_below(file, file->path, model) && plain_path(file->path, ours, sizeof ours) && plain_path(model, its, sizeof its))
        take_name_below(file, ours, its);
}

static bool obtain_model(struct client *c, char *ret)
{
    int n = c->o.nwords;
    struct source *files = calloc((size_t)n, sizeof *files);
    bool ok = files || fail(&c->f, EXIT_ENVIRONMENT, "client.memory", "", "no memory");
    for (int i = 0; i < n && files; i++)
        files[i].fd = -1;
    for (int i = 0; i < n && ok; i++) {
        ok = source_open(c, c->o.words[i], &files[i]);
        if (i > 0)
            name_external(&files[i], c->o.words[0]);
    }
    ok = ok && asset_obtain(c, MODEL, files, n, c->o.name, ret, ID_SIZE);
    for (int i = 0; i < n && files; i++)
        source_close(&files[i]);
    free(files);
    return ok;
}

static bool obtain_data(struct client *c, const char *path, char *ret)
{
    struct source file;
    bool ok = source_open(c, path, &file) && asset_obtain(c, DATASET, &file, 1, NULL, ret, ID_SIZE);
    source_close(&file);
    return ok;
}

static char *request(struct client *c)
{
    char model[ID_SIZE], calibration[ID_SIZE] = "", evaluation[ID_SIZE] = "";
    json_t *recipe = read_recipe(c), *labels = c->f.exit ? NULL : read_labels(c), *body = NULL;
    if (!c->f.exit && obtain_model(c, model) && (!c->o.calibration || obtain_data(c, c->o.calibration, calibration))
        && (!c->o.evaluation || obtain_data(c, c->o.evaluation, evaluation)))
        body = json_pack("{s:s, s:s, s:O}", "type", "quantize", "model_id", model, "recipe", recipe);
    if (body && calibration[0])
        json_object_set_new(body, "dataset_id", json_string(calibration));
    if (body && evaluation[0])
        json_object_set_new(body, "eval_dataset_id", json_string(evaluation));
    if (body && c->o.priority >= 0)
        json_object_set_new(body, "priority", json_integer(c->o.priority));
    if (body && json_object_size(labels))
        json_object_set(body, "labels", labels);
    /* A job that is found has the labels and the priority of whoever made it. */
    if (body && !c->o.fresh && c->o.priority < 0 && !json_object_size(labels))
        json_object_set_new(body, "dedupe", json_string("reuse"));
    char *text = body ? json_text(body, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(body);
    json_decref(labels);
    json_decref(recipe);
    if (!text)
        fail(&c->f, EXIT_ENVIRONMENT, "client.memory", "", "no memory for the request");
    return text;
}

/* ---- the job ---- */

/* `gone`: the job that the request's own key stands for, which has been deleted; "" if it has not.  The same command finds the next one by the same way. */
static bool make_key(struct client *c, const char *body, const char *gone, char *ret, size_t size)
{
    char digest[DIGEST_SIZE];
    unsigned char random[32];
    struct sha256 hash;
    sha256_init(&hash);
    sha256_add(&hash, body, strlen(body));
    sha256_add(&hash, gone, strlen(gone));
    if (c->o.fresh && getrandom(random, sizeof random, 0) != sizeof random)
        return fail_errno(&c->f, "", "draw a random number");
    if (c->o.fresh)
        sha256_add(&hash, random, sizeof random);
    sha256_end(&hash, digest);
    snprintf(ret, size, "Idempotency-Key: repquantctl-%s", digest + 7);
    return true;
}

static void tell_of_then(struct client *c, const json_t *job)
{
    show_note(c, "the same was submitted before; this is the job of then (%s). --new asks again", text_of(job, "state"));
}

/* What is answered to the key again is the job as it was made.  NULL, and no failure: it has been deleted since. */
static json_t *as_it_is(struct client *c, const char *id)
{
    char path[160];
    json_t *job = job_path(c, id, "", path, sizeof path) ? http_get(&c->service, path, &c->f) : NULL;
    if (job)
        tell_of_then(c, job);
    if (!job && c->f.status == 404)
        c->f = (struct failure){ 0 };
    return job;
}

static json_t *post(struct client *c, const char *body)
{
    char key[128], gone[ID_SIZE] = "";
    for (int i = 0; i < MAX_GONE; i++) {
        struct http_answer a;
        struct http_request r = { .method = "POST", .path = "/v1/jobs", .json = body, .fields = { key } };
        if (!make_key(c, body, gone, key, sizeof key) || !http_send(&c->service, &r, &a, &c->f))
            return NULL;
        snprintf(gone, sizeof gone, "%s", text_of(a.json, "id"));
        bool ok = id_ok(gone, "job_");
        if (ok && !a.header[H_IDEMPOTENCY_REPLAYED][0]) {
            if (strcmp(text_of(a.json, "cache"), "hit") == 0)
                tell_of_then(c, a.json);
            return a.json;
        }
        http_release(&a);
        json_t *job = ok ? as_it_is(c, gone) : NULL;
        if (job || !ok || c->f.exit)
            return job;
    }
    return NULL;
}

/* Waits and fetches; *job becomes the job at its end. */
static bool see_through(struct client *c, json_t **job)
{
    char id[ID_SIZE];
    snprintf(id, sizeof id, "%s", text_of(*job, "id"));
    json_t *end = await_job(c, id);
    if (!end)
        return false;
    json_decref(*job);
    *job = end;
    if (!c->o.output || job_exit(end) != EXIT_DONE)
        return true;
    json_t *files = fetch_results(c, id, c->o.output);
    if (files)
        json_object_set_new(end, "files", files);
    return files;
}

static int finish(struct client *c, json_t *job)
{
    if (!c->o.json) {
        show(stdout, "%s\n", text_of(job, "id"));
        (void)fflush(stdout);      /* main() says whether stdout could be written */
    }
    if (!c->o.wait)
        return client_json(c, job, EXIT_DONE);
    if (!see_through(c, &job)) {
        json_decref(job);
        return client_failed(c);
    }
    int exit = job_exit(job);
    if (!c->o.json && (!c->o.quiet || exit))        /* why it failed is no progress */
        show_job(stderr, job);
    return client_json(c, job, exit);
}

int command_submit(struct client *c)
{
    if (!c->o.recipe)
        missing(c, "--recipe");
    else if (c->o.output && !c->o.wait)
        fail(&c->f, EXIT_USAGE, "client.usage", "--output", "results are there once the job has ended: add --wait, or use `repquantctl download`");
    if (!c->f.exit && c->o.output)
        fetch_prepare(c, c->o.output);
    char *body = !c->f.exit && client_open(c) ? request(c) : NULL;
    json_t *job = body ? post(c, body) : NULL;
    if (!job)
        fail(&c->f, EXIT_ENVIRONMENT, "client.answer", c->service.url, "the service does not tell the id of a job it has; is a proxy between?");
    free(body);
    show_bar_end(c);
    return job ? finish(c, job) : client_failed(c);
}
