/* results.c - a job's layers and its report. */
#include "api/app.h"
#include "api/details.h"
#include "api/handlers.h"
#include "api/report.h"
#include "api/rows.h"
#include "api/serve.h"
#include "storage/asset.h"
#include "storage/job.h"
#include "storage/result.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_t *layer_json(const struct layer *layer)
{
    json_t *row = row_stored(layer->row);
    json_object_set_new(row, "index", json_integer(layer->index));
    return row;
}

static bool read_layers(struct app *app, const struct request *req, enum layer_sort sort, bool descending, json_t *ret, struct err *e)
{
    struct layer_list list = { 0 };
    bool ok = layer_list(app->store, req->who.team, req->param[0], sort, descending, &list, e);
    for (size_t i = 0; ok && i < list.n; i++)
        json_array_append_new(ret, layer_json(&list.items[i]));
    layer_list_release(&list);
    return ok;
}

bool list_job_layers(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    enum layer_sort sort = LAYER_INDEX;
    const char *by = request_query(req, "sort"), *order = request_query(req, "order");
    if (by && !layer_sort_parse(by, &sort))
        return err_set(e, ERR_REQUEST_INVALID, "sort", "\"sort\" must be a member of a layer's row, such as output_sqnr_db");
    json_t *data = json_array();
    if (row_order(order, e) && read_layers(app, req, sort, order && strcmp(order, "desc") == 0, data, e))
        return reply_json(reply, 200, row_list(data, false, ""), e);
    json_decref(data);
    return false;
}

/* A job that has no results yet is a conflict, not a missing path.  *ret is to be released in any case. */
static bool get_succeeded(struct app *app, const struct request *req, struct job *ret, struct err *e)
{
    return job_get(app->store, req->who.team, req->param[0], ret, e)
        && (ret->state == JOB_SUCCEEDED
            || err_set(e, ERR_CONFLICT, "state", "the job is %s; results exist once it has succeeded", job_state_name(ret->state)));
}

/* Opens an artifact of a job by name. */
static bool open_result(struct app *app, const struct request *req, const char *name, struct artifact *ret, int *ret_fd,
                        uint64_t *ret_size, struct err *e)
{
    struct job job = { 0 };
    bool ok = get_succeeded(app, req, &job, e);
    job_release(&job);
    return ok && artifact_find(app->store, req->who.team, req->param[0], name, ret, e)
        && blob_open(app->store, req->who.team, ret->digest, false, ret_fd, ret_size, e);
}

static bool parse_index(const char *text, int64_t *ret, struct err *e)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno)
        return err_set(e, ERR_NOT_FOUND, "index", "a layer's index is a number");
    *ret = n;
    return true;
}

bool get_layer_details(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct artifact a;
    struct mapping map;
    int64_t index;
    int fd;
    uint64_t size;
    if (!parse_index(req->param[1], &index, e) || !open_result(app, req, "details.json", &a, &fd, &size, e))
        return false;
    bool mapped = mapping_fd(&map, fd, "details.json", e);
    close(fd);
    if (!mapped)
        return false;
    json_t *details = details_find((const char *)map.data, map.size, index, e);
    mapping_release(&map);
    return details && reply_json(reply, 200, details, e);
}

/* The names of what a job used, as long as they are there. */
static void name_asset(struct app *app, const struct request *req, enum asset_kind kind, const char *id, char *ret, size_t size)
{
    struct asset a = { 0 };
    snprintf(ret, size, "%s", asset_get_row(app->store, req->who.team, kind, id, &a, NULL) ? a.name : id);
    asset_release(&a);
}

static bool read_warnings(struct app *app, const struct request *req, json_t *ret, struct err *e)
{
    enum { PAGE = 200 };
    struct event_list list = { .more = true };
    bool ok = true;
    for (int64_t after = 0; ok && list.more;) {
        ok = event_list(app->store, req->who.team, req->param[0], after, PAGE, &list, e);
        for (size_t i = 0; ok && i < list.n; i++) {
            after = list.items[i].seq;
            if (strcmp(list.items[i].type, "job.warning") == 0)
                json_array_append_new(ret, row_stored(list.items[i].data));
        }
        bool more = ok && list.more;
        event_list_release(&list);
        list.more = more;
    }
    return ok;
}

struct report_format {
    const char *name, *type;
    void (*make)(const struct report *r, struct buf *out);
};
static const struct report_format formats[] = {
    { "csv", "text/csv; charset=utf-8", report_csv },
    { "html", "text/html; charset=utf-8", report_html },
};

/* To be kept as a file.  Opened here all the same it may do nothing: names in it are a stranger's. */
static bool reply_report(const struct report *r, const struct report_format *f, struct reply *reply, struct err *e)
{
    struct buf out = BUF_INIT(REPORT_MAX);
    f->make(r, &out);
    if (out.bad) {
        buf_release(&out);
        return err_set(e, ERR_MEMORY, "report", "no memory for the report");
    }
    reply->text = out.p;
    reply->size = out.n;
    reply->type = f->type;
    reply_field(reply, "Content-Disposition", "attachment; filename=\"%s.%s\"", r->job->id, f->name);
    reply_field(reply, "Content-Security-Policy", "sandbox; default-src 'none'; style-src 'unsafe-inline'");
    return true;
}

static bool made_report(struct app *app, struct request *req, const struct report_format *f, struct reply *reply, struct err *e)
{
    struct job job = { 0 };
    struct report r = { .job = &job, .layers = json_array(), .warnings = json_array() };
    bool ok = get_succeeded(app, req, &job, e) && read_layers(app, req, LAYER_INDEX, false, r.layers, e) && read_warnings(app, req, r.warnings, e)
           && metric_list(app->store, req->who.team, req->param[0], &r.metrics, e);
    if (ok) {
        name_asset(app, req, ASSET_MODEL, job.model_id, r.model, sizeof r.model);
        name_asset(app, req, ASSET_DATASET, job.dataset_id, r.dataset, sizeof r.dataset);
        ok = reply_report(&r, f, reply, e);
    }
    metric_list_release(&r.metrics);
    json_decref(r.layers);
    json_decref(r.warnings);
    job_release(&job);
    return ok;
}

bool get_job_report(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct artifact a;
    int fd;
    uint64_t size;
    const char *format = request_query(req, "format");
    for (size_t i = 0; format && i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, format) == 0)
            return made_report(app, req, &formats[i], reply, e);
    if (format && strcmp(format, "json") != 0)
        return err_set(e, ERR_REQUEST_INVALID, "format", "\"format\" must be json, csv or html");
    if (!open_result(app, req, "report.json", &a, &fd, &size, e) || !reply_file(req, reply, fd, size, a.digest, a.name, e))
        return false;
    if (reply->type)
        reply->type = "application/json";
    return true;
}
