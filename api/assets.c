/*
 * assets.c - /v1/models and /v1/datasets.
 *
 * Both are registered in the same steps: the bytes are in the blob store (uploaded before, or streamed there by this very
 * request), a child process looks into them, and the row is written with what it found.  A file that cannot be used
 * is 422 and leaves no row.  The two kinds differ in one table.
 */
#include "api/app.h"
#include "api/handlers.h"
#include "api/once.h"
#include "api/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *prefix, *path, *default_name;
    const char *formats;            /* what a client may claim; "" in the request leaves it to the inventory */
} kinds[] = {
    [ASSET_MODEL] = { "mdl", "/v1/models", "model.onnx", "onnx" },
    [ASSET_DATASET] = { "ds", "/v1/datasets", "data", "npz npy safetensors images" },
};

static json_t *files_json(const struct asset *a)
{
    json_t *files = json_array();
    for (size_t i = 0; i < a->nfiles; i++)
        json_array_append_new(files, json_pack("{s:s, s:s, s:I, s:b}", "path", a->files[i].path, "digest", a->files[i].digest,
                                               "bytes", (json_int_t)a->files[i].size, "corrupt", (int)a->files[i].corrupt));
    return files;
}

static json_t *asset_json(const struct asset *a, bool whole)
{
    json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:I, s:o, s:b}", "id", a->id, "name", a->name, "format", a->format,
                            "digest", a->digest, "bytes", (json_int_t)a->bytes, "created_at", row_time(a->created_at), "corrupt", (int)a->corrupt);
    if (row && whole) {
        json_object_set_new(row, "files", files_json(a));
        json_object_set_new(row, "inventory", row_stored(a->inventory));
    }
    return row;
}

static bool take_name(struct asset *a, const char *name, const char *where, struct err *e)
{
    if (!request_name(name, where, e))
        return false;
    snprintf(a->name, sizeof a->name, "%s", name);
    return true;
}

static bool take_format(struct asset *a, const char *format, const char *where, struct err *e)
{
    if (!format)
        return true;
    if (!route_lists(kinds[a->kind].formats, format))
        return err_set(e, ERR_REQUEST_INVALID, where, "\"format\" must be one of: %s", kinds[a->kind].formats);
    snprintf(a->format, sizeof a->format, "%s", format);
    return true;
}

/* The name a model uses for one of its files is a key.  It must still look like a relative path: others will unpack it. */
static bool take_path(struct asset_file *file, const char *path, const char *where, struct err *e)
{
    size_t n = strlen(path);
    bool dots = strcmp(path, "..") == 0 || strncmp(path, "../", 3) == 0 || strstr(path, "/../")
        || (n >= 3 && strcmp(path + n - 3, "/..") == 0);
    if (n == 0 || n >= sizeof file->path || path[0] == '/' || strchr(path, '\\') || dots)
        return err_set(e, ERR_REQUEST_INVALID, where, "give a relative path of at most %zu bytes without \"..\" or backslashes",
                       sizeof file->path - 1);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)path[i] < 0x20 || path[i] == 0x7f)
            return err_set(e, ERR_REQUEST_INVALID, where, "the path must not hold control characters");
    memcpy(file->path, path, n + 1);
    return true;
}

static bool take_digest(struct app *app, const char *team, struct asset_file *file, const char *digest, const char *where, struct err *e)
{
    uint8_t bytes[HASH_SIZE];
    struct blob blob;
    struct err missing = { 0 };
    if (!hash_parse(digest, bytes))
        return err_set(e, ERR_REQUEST_INVALID, where, "the digest must be \"sha256:\" and 64 lower-case hexadecimal digits");
    snprintf(file->digest, sizeof file->digest, "%s", digest);
    if (blob_get(app->store, team, digest, &blob, &missing))
        return true;
    if (missing.code == ERR_NOT_FOUND)
        return err_set(e, ERR_REQUEST_REFERENCE, where, "there is no such blob; upload it first: PUT /v1/blobs/%s", digest);
    *e = missing;
    return false;
}

static bool take_file(struct app *app, const char *team, struct asset *a, size_t i, const json_t *item, struct err *e)
{
    static const char *const members[] = { "path", "digest", NULL };
    const char *path, *digest;
    char pointer[48], where[64];
    struct asset_file *file = &a->files[i];
    snprintf(pointer, sizeof pointer, "/files/%zu", i);
    if (!request_members(item, members, pointer, e)
        || !json_get_str(item, "path", pointer, false, ASSET_PATH_SIZE - 1, &path, ERR_REQUEST_JSON, e)
        || !json_get_str(item, "digest", pointer, false, HASH_TEXT_SIZE - 1, &digest, ERR_REQUEST_JSON, e))
        return false;
    snprintf(where, sizeof where, "%s/path", pointer);
    for (size_t k = 0; k < i; k++)
        if (strcmp(a->files[k].path, path) == 0)
            return err_set(e, ERR_REQUEST_INVALID, where, "two files have the same path");
    if (!take_path(file, path, where, e))
        return false;
    snprintf(where, sizeof where, "%s/digest", pointer);
    return take_digest(app, team, file, digest, where, e);
}

static bool take_files(struct app *app, const char *team, struct asset *a, const json_t *files, struct err *e)
{
    size_t n = json_array_size(files);
    if (n == 0 || n > ASSET_MAX_FILES)
        return err_set(e, ERR_REQUEST_JSON, "/files", "\"files\" must be a list of 1 to %d objects {path, digest}", ASSET_MAX_FILES);
    a->files = calloc(n, sizeof *a->files);
    if (!a->files)
        return err_sys(e, "/files", "keep the list of files");
    a->nfiles = n;
    for (size_t i = 0; i < n; i++)
        if (!take_file(app, team, a, i, json_array_get(files, i), e))
            return false;
    return true;
}

/* One file, by digest: what a data set usually is. */
static bool take_one_file(struct app *app, const char *team, struct asset *a, const char *path, const char *digest, const char *where,
                          struct err *e)
{
    a->files = calloc(1, sizeof *a->files);
    if (!a->files)
        return err_sys(e, where, "keep the file");
    a->nfiles = 1;
    return take_path(a->files, path, "name", e) && take_digest(app, team, a->files, digest, where, e);
}

/* What the child found is what it is; a client may have asked that it be that. */
static bool settle_format(struct asset *a, struct err *e)
{
    json_t *inventory = json_read(a->inventory, 0);
    if (!inventory)
        return err_set(e, ERR_MEMORY, "inventory", "no memory for it; try again");
    const char *found = json_string_value(json_object_get(inventory, "format"));
    bool same = !found || !a->format[0] || strcmp(found, a->format) == 0;
    if (!a->format[0])
        snprintf(a->format, sizeof a->format, "%s", found ? found : "unknown");
    if (!same)
        err_set(e, a->kind == ASSET_MODEL ? ERR_MODEL_FORMAT : ERR_DATA_FORMAT, "format", "the file is %.32s, not %s", found, a->format);
    json_decref(inventory);
    return same;
}

static char *answer_text(const void *made, int *ret_status)
{
    *ret_status = 201;
    return once_text(asset_json(made, true));
}

static bool register_asset(struct app *app, const struct request *req, const struct idempotency *key, struct asset *a, struct reply *reply,
                           struct err *e)
{
    return app->inspect(app->server, req->who.team, a->kind, a->files, a->nfiles, &a->inventory, e) && settle_format(a, e)
        && asset_insert(app->store, req->who.team, a, key, e)
        && reply_made(reply, 201, kinds[a->kind].path, a->id, asset_json(a, true), e);
}

static bool fill_from_json(struct app *app, const struct request *req, struct asset *a, const json_t *body, struct err *e)
{
    const char *name, *format = NULL, *digest = NULL;
    const json_t *files = json_object_get(body, "files");
    if (!json_get_str(body, "name", "", false, ASSET_NAME_SIZE - 1, &name, ERR_REQUEST_JSON, e)
        || !json_get_str(body, "format", "", true, sizeof a->format - 1, &format, ERR_REQUEST_JSON, e)
        || !json_get_str(body, "digest", "", true, HASH_TEXT_SIZE - 1, &digest, ERR_REQUEST_JSON, e)
        || !take_name(a, name, "/name", e) || !take_format(a, format, "/format", e))
        return false;
    if (files && digest)
        return err_set(e, ERR_REQUEST_JSON, "/digest", "give \"files\" or \"digest\", not both");
    return digest ? take_one_file(app, req->who.team, a, kinds[a->kind].default_name, digest, "/digest", e)
                  : take_files(app, req->who.team, a, files, e);
}

static bool make_asset(struct app *app, const struct request *req, enum asset_kind kind, const struct idempotency *key, struct reply *reply,
                       struct err *e)
{
    static const char *const members[] = { "name", "format", "files", "digest", NULL };
    struct asset a = { .kind = kind };
    json_t *body = request_json(req, members, false, e);
    bool ok = body && fill_from_json(app, req, &a, body, e) && register_asset(app, req, key, &a, reply, e);
    json_decref(body);
    asset_release(&a);
    return ok;
}

static bool make_model(struct app *app, const struct request *req, const struct idempotency *key, struct reply *reply, struct err *e)
{
    return make_asset(app, req, ASSET_MODEL, key, reply, e);
}

static bool make_dataset(struct app *app, const struct request *req, const struct idempotency *key, struct reply *reply, struct err *e)
{
    return make_asset(app, req, ASSET_DATASET, key, reply, e);
}

static bool post_asset(struct app *app, struct request *req, enum asset_kind kind, struct reply *reply, struct err *e)
{
    const struct once once = { kinds[kind].path, 201, answer_text, kind == ASSET_MODEL ? make_model : make_dataset };
    return reply_once(app, req, &once, reply, e);
}

/* One step: the body is the file.  Its name is the query's, or the path's (curl -T FILE URL/ appends it). */
static bool put_asset(struct app *app, struct request *req, enum asset_kind kind, struct reply *reply, struct err *e)
{
    struct asset a = { .kind = kind };
    struct blob blob;
    const char *file = req->param[0] ? req->param[0] : kinds[kind].default_name;
    const char *name = request_query(req, "name");
    if (!app_takes_work(app, e))
        return false;
    reply->status = 201;
    bool ok = take_name(&a, name ? name : file, "name", e) && take_format(&a, request_query(req, "format"), "format", e)
        && blob_finish(req->upload, &blob, e)
        && take_one_file(app, req->who.team, &a, file, blob.digest, "body", e) && register_asset(app, req, NULL, &a, reply, e);
    asset_release(&a);
    return ok;
}

static bool list_assets(struct app *app, struct request *req, enum asset_kind kind, struct reply *reply, struct err *e)
{
    struct page page;
    struct asset_list list = { 0 };
    if (!row_page(req, kinds[kind].prefix, &page, e) || !asset_list(app->store, req->who.team, kind, page, &list, e))
        return false;
    json_t *data = json_array();
    for (size_t i = 0; i < list.n; i++)
        json_array_append_new(data, asset_json(&list.items[i], false));
    json_t *answer = row_list(data, list.more, list.n ? list.items[list.n - 1].id : "");
    asset_list_release(&list);
    return reply_json(reply, 200, answer, e);
}

static bool get_asset(struct app *app, struct request *req, enum asset_kind kind, struct reply *reply, struct err *e)
{
    struct asset a = { 0 };
    if (!asset_get(app->store, req->who.team, kind, req->param[0], &a, e))
        return false;
    json_t *row = asset_json(&a, true);
    asset_release(&a);
    return reply_json(reply, 200, row, e);
}

static bool delete_asset(struct app *app, struct request *req, enum asset_kind kind, struct reply *reply, struct err *e)
{
    reply->status = 204;
    return asset_delete(app->store, req->who.team, kind, req->param[0], e);
}

static bool validate(struct app *app, const struct request *req, const char *model_id, struct reply *reply, struct err *e)
{
    struct asset data = { 0 }, model = { 0 };
    struct err missing = { 0 };
    char *text = NULL;
    const char *team = req->who.team;
    bool ok = asset_get(app->store, team, ASSET_DATASET, req->param[0], &data, e);
    if (ok && !asset_get(app->store, team, ASSET_MODEL, model_id, &model, &missing))
        ok = missing.code == ERR_NOT_FOUND ? err_set(e, ERR_REQUEST_REFERENCE, "/model_id", "there is no model with this id")
                                           : err_set(e, missing.code, missing.where, "%s", missing.text);
    ok = ok && app->validate(app->server, team, &model, &data, &text, e);
    asset_release(&data);
    asset_release(&model);
    json_t *report = ok ? row_stored(text) : NULL;
    free(text);
    return ok && reply_json(reply, 200, report, e);
}

/* Looked into anew each time: it says what a job would say, without one. */
bool post_validation(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    static const char *const members[] = { "model_id", NULL };
    const char *model_id;
    json_t *body = request_json(req, members, false, e);
    bool ok = body && json_get_str(body, "model_id", "", false, ID_SIZE - 1, &model_id, ERR_REQUEST_JSON, e)
        && validate(app, req, model_id, reply, e);
    json_decref(body);
    return ok;
}

#define HANDLERS(verb, name, kind)                                                                     \
    bool name(struct app *app, struct request *req, struct reply *reply, struct err *e)                \
    {                                                                                                  \
        return verb##_asset(app, req, kind, reply, e);                                                 \
    }
HANDLERS(post, post_model, ASSET_MODEL)
HANDLERS(put, put_model, ASSET_MODEL)
HANDLERS(get, get_model, ASSET_MODEL)
HANDLERS(delete, delete_model, ASSET_MODEL)
HANDLERS(post, post_dataset, ASSET_DATASET)
HANDLERS(put, put_dataset, ASSET_DATASET)
HANDLERS(get, get_dataset, ASSET_DATASET)
HANDLERS(delete, delete_dataset, ASSET_DATASET)
#define list_asset list_assets
HANDLERS(list, list_models, ASSET_MODEL)
HANDLERS(list, list_datasets, ASSET_DATASET)
