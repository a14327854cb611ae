#include "client/asset.h"

#include "client/show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PAGES = 200 };       /* of 200: past 40,000 models another one makes no difference */

static const struct {
    const char *path, *prefix;
} kinds[] = { [MODEL] = { "/v1/models", "mdl_" }, [DATASET] = { "/v1/datasets", "ds_" } };

static bool same_files(const json_t *asset, const struct source *files, int n)
{
    const json_t *list = json_object_get(asset, "files");
    if (json_array_size(list) != (size_t)n)
        return false;
    for (int i = 0; i < n; i++) {
        const json_t *file = json_array_get(list, (size_t)i);
        if (strcmp(text_of(file, "digest"), files[i].digest) != 0 || (n > 1 && strcmp(text_of(file, "path"), files[i].name) != 0))
            return false;
    }
    return true;
}

static uint64_t bytes_of(const struct source *files, int n)
{
    uint64_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += files[i].bytes;
    return sum;
}

/* Of several files a list has only the sum of their bytes: then the row itself must tell. */
static bool row_matches(struct client *c, enum asset_kind kind, const json_t *row, const struct source *files, int n, const char *name)
{
    char path[96];
    if (!id_ok(text_of(row, "id"), kinds[kind].prefix) || (name && strcmp(text_of(row, "name"), name) != 0))
        return false;
    if (n == 1)
        return strcmp(text_of(row, "digest"), files[0].digest) == 0;
    if ((uint64_t)json_integer_value(json_object_get(row, "bytes")) != bytes_of(files, n))
        return false;
    snprintf(path, sizeof path, "%s/%s", kinds[kind].path, text_of(row, "id"));
    json_t *whole = http_get(&c->service, path, &c->f);
    bool same = whole && same_files(whole, files, n);
    json_decref(whole);
    return same;
}

/* ret stays "" where there is none. */
static bool find(struct client *c, enum asset_kind kind, const struct source *files, int n, const char *name, char *ret, size_t size)
{
    char path[160];
    snprintf(path, sizeof path, "%s?limit=200&order=asc", kinds[kind].path);
    for (int page = 0; page < MAX_PAGES && !ret[0]; page++) {
        json_t *list = http_get(&c->service, path, &c->f);
        const json_t *data = json_object_get(list, "data");
        for (size_t i = 0; i < json_array_size(data) && !ret[0] && !c->f.exit; i++)
            if (row_matches(c, kind, json_array_get(data, i), files, n, name))
                snprintf(ret, size, "%s", text_of(json_array_get(data, i), "id"));
        const char *next = text_of(list, "next_cursor");
        bool more = id_ok(next, kinds[kind].prefix);
        snprintf(path, sizeof path, "%s?limit=200&order=asc&cursor=%s", kinds[kind].path, more ? next : "");
        json_decref(list);
        if (!more)
            break;
    }
    return !c->f.exit;
}

static char *registration(enum asset_kind kind, const struct source *files, int n, const char *name)
{
    json_t *body = json_pack("{s:s}", "name", name ? name : files[0].name);
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_pack("{s:s, s:s}", "path", files[i].name, "digest", files[i].digest));
    if (body)
        json_object_set_new(body, "files", list);
    else
        json_decref(list);
    if (body && kind == MODEL)
        json_object_set_new(body, "format", json_string("onnx"));
    char *text = body ? json_text(body, JSON_COMPACT) : NULL;
    json_decref(body);
    return text;
}

/* What POST answers carries no key of ours, so where the answer is lost it is looked whether the asset is there. */
static bool enroll(struct client *c, enum asset_kind kind, const struct source *files, int n, const char *name, char *ret, size_t size)
{
    char *body = registration(kind, files, n, name);
    struct backoff b = service_backoff(&c->service);
    if (!body)
        return fail(&c->f, EXIT_INPUT, "client.name", files[0].path, "the name must be UTF-8; give another with --name");
    for (;;) {
        json_t *made = http_post(&c->service, kinds[kind].path, body, true, &c->f);
        if (made) {
            snprintf(ret, size, "%s", id_ok(text_of(made, "id"), kinds[kind].prefix) ? text_of(made, "id") : "");
            json_decref(made);
            break;
        }
        if (!http_unknown(&c->f))
            break;
        c->f.again = true;
        if (!backoff_again(&b, &c->f) || !find(c, kind, files, n, name, ret, size) || ret[0])
            break;
    }
    free(body);
    return !c->f.exit && (ret[0] || fail(&c->f, EXIT_ENVIRONMENT, "client.answer", c->service.url, "the service does not tell the id it gave"));
}

bool asset_obtain(struct client *c, enum asset_kind kind, const struct source *files, int n, const char *name, char *ret, size_t size)
{
    ret[0] = '\0';
    if (!find(c, kind, files, n, name, ret, size))
        return false;
    if (ret[0])
        return true;
    for (int i = 0; i < n; i++)
        if (!source_send(c, &files[i]))
            return false;
    show_bar(c, "being looked into by the service", 0, 0);
    if (enroll(c, kind, files, n, name, ret, size))
        return true;
    if (c->f.status && !c->f.where[0])
        snprintf(c->f.where, sizeof c->f.where, "%s", files[0].path);
    return false;
}
