#include "client/asset.h"

#include "client/show.h"
#include "core/base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PAGES = 200,         /* of 200: past 40,000 models another one makes no difference */
       MAX_NAME = 200 };

static const struct {
    const char *path, *prefix, *neutral;
} kinds[] = { [MODEL] = { "/v1/models", "mdl_", "model.onnx" }, [DATASET] = { "/v1/datasets", "ds_", "data" } };

/* What one lot of files is asked for as, and what was found or made of it. */
struct wanted {
    enum asset_kind kind;
    const struct source *files;
    int n;
    const char *name;           /* that it must have; NULL: any */
    char id[64];                /* "": none */
    bool corrupt;               /* stored bytes of it have rotted */
};

/* What the service calls a file.  The first one's name means nothing to the model, so where it cannot be sent another one will do. */
static const char *sent_path(const struct wanted *w, int i)
{
    const char *name = w->files[i].name;
    char plain[sizeof w->files->name];
    snprintf(plain, sizeof plain, "%s", name);
    return i > 0 || (strcmp(show_plain(plain), name) == 0 && !strchr(name, '\\')) ? name : kinds[w->kind].neutral;
}

static bool same_files(const json_t *asset, const struct wanted *w)
{
    const json_t *list = json_object_get(asset, "files");
    if (json_array_size(list) != (size_t)w->n)
        return false;
    for (int i = 0; i < w->n; i++) {
        const json_t *file = json_array_get(list, (size_t)i);
        if (strcmp(text_of(file, "digest"), w->files[i].digest) != 0 || strcmp(text_of(file, "path"), sent_path(w, i)) != 0)
            return false;
    }
    return true;
}

static uint64_t bytes_of(const struct wanted *w)
{
    uint64_t sum = 0;
    for (int i = 0; i < w->n; i++)
        sum += w->files[i].bytes;
    return sum;
}

/* Of several files a list has only the sum of their bytes: then the row itself must tell. */
static bool row_matches(struct client *c, const json_t *row, const struct wanted *w)
{
    char path[96];
    if (!id_ok(text_of(row, "id"), kinds[w->kind].prefix) || (w->name && strcmp(text_of(row, "name"), w->name) != 0))
        return false;
    if (w->n == 1)
        return strcmp(text_of(row, "digest"), w->files[0].digest) == 0;
    if ((uint64_t)json_integer_value(json_object_get(row, "bytes")) != bytes_of(w))
        return false;
    snprintf(path, sizeof path, "%s/%s", kinds[w->kind].path, text_of(row, "id"));
    json_t *whole = http_get(&c->service, path, &c->f);
    bool same = whole && same_files(whole, w);
    json_decref(whole);
    return same;
}

/* The id stays "" where there is none. */
static bool find(struct client *c, struct wanted *w)
{
    char path[160];
    snprintf(path, sizeof path, "%s?limit=200&order=asc", kinds[w->kind].path);
    for (int page = 0; page < MAX_PAGES && !w->id[0]; page++) {
        json_t *list = http_get(&c->service, path, &c->f);
        const json_t *data = json_object_get(list, "data");
        for (size_t i = 0; i < json_array_size(data) && !w->id[0] && !c->f.exit; i++) {
            const json_t *row = json_array_get(data, i);
            if (!row_matches(c, row, w))
                continue;
            snprintf(w->id, sizeof w->id, "%s", text_of(row, "id"));
            w->corrupt = json_is_true(json_object_get(row, "corrupt"));
        }
        const char *next = text_of(list, "next_cursor");
        bool more = id_ok(next, kinds[w->kind].prefix);
        snprintf(path, sizeof path, "%s?limit=200&order=asc&cursor=%s", kinds[w->kind].path, more ? next : "");
        json_decref(list);
        if (!more)
            break;
    }
    return !c->f.exit;
}

/* NULL without memory: what could not be JSON has been looked for before. */
static char *registration(const struct wanted *w)
{
    char of_file[sizeof w->files->name];
    snprintf(of_file, sizeof of_file, "%s", w->files[0].name);
    of_file[utf8_fit(show_plain(of_file), MAX_NAME)] = '\0';
    json_t *body = json_pack("{s:s, s:[]}", "name", w->name ? w->name : of_file, "files");
    json_t *list = json_object_get(body, "files");
    bool ok = body && (w->kind != MODEL || json_object_set_new(body, "format", json_string("onnx")) == 0);
    for (int i = 0; i < w->n && ok; i++)
        ok = json_array_append_new(list, json_pack("{s:s, s:s}", "path", sent_path(w, i), "digest", w->files[i].digest)) == 0;
    char *text = ok ? json_text(body, JSON_COMPACT) : NULL;
    json_decref(body);
    return text;
}

/* What POST answers carries no key of ours, so where the answer is lost it is looked whether the asset is there. */
static bool enroll(struct client *c, struct wanted *w)
{
    char *body = registration(w);
    struct backoff b = service_backoff(&c->service);
    if (!body)
        return fail(&c->f, EXIT_ENVIRONMENT, "client.memory", "", "no memory for the request");
    for (;;) {
        json_t *made = http_post(&c->service, kinds[w->kind].path, body, true, &c->f);
        if (made) {
            snprintf(w->id, sizeof w->id, "%s", id_ok(text_of(made, "id"), kinds[w->kind].prefix) ? text_of(made, "id") : "");
            json_decref(made);
            break;
        }
        if (!http_unknown(&c->f))
            break;
        c->f.again = true;
        if (!backoff_again(&b, &c->f) || !find(c, w) || w->id[0])
            break;
    }
    free(body);
    return !c->f.exit && (w->id[0] || fail(&c->f, EXIT_ENVIRONMENT, "client.answer", c->service.url, "the service does not tell the id it gave"));
}

/* Names that the service would be sent and JSON cannot hold. */
static bool check_names(struct client *c, const struct wanted *w)
{
    if (w->name && !utf8_valid(w->name))
        return fail(&c->f, EXIT_USAGE, "client.usage", "--name", "the name is not UTF-8");
    for (int i = 1; i < w->n; i++)
        if (!utf8_valid(w->files[i].name))
            return fail(&c->f, EXIT_INPUT, "client.name", w->files[i].path,
                        "the file's name is not UTF-8, and no model can name it so; save the model with another name for its data");
    return true;
}

bool asset_obtain(struct client *c, enum asset_kind kind, const struct source *files, int n, const char *name, char *ret, size_t size)
{
    struct wanted w = { .kind = kind, .files = files, .n = n, .name = name };
    if (!check_names(c, &w) || !find(c, &w))
        return false;
    bool there = w.id[0] && !w.corrupt;
    for (int i = 0; i < n && !there; i++)       /* to one that has rotted, too: that heals it */
        if (!source_send(c, &files[i]))
            return false;
    if (!w.id[0]) {
        show_bar(c, "being looked into by the service", 0, 0);
        enroll(c, &w);
    }
    snprintf(ret, size, "%s", w.id);
    if (c->f.status && !c->f.where[0])
        snprintf(c->f.where, sizeof c->f.where, "%s", files[0].path);
    return !c->f.exit;
}
