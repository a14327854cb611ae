/* api_fixture.h - the API without sockets: a request goes through the same calls the HTTP server makes. */
#ifndef TESTS_UNIT_DAEMON_API_FIXTURE_H
#define TESTS_UNIT_DAEMON_API_FIXTURE_H

#include "tests/unit/daemon/storage_fixture.h"

#include "api/app.h"
#include "api/request.h"
#include "storage/token.h"

/* What the rest of the server would do, and what it was asked. */
struct fake_server {
    int kicks, cancels, inspections;
    const char *inventory;              /* what looking into a file finds; NULL: the file is at fault */
};

struct api {
    struct fixture *fixture;
    struct app app;
    struct fake_server server;
    char admin[TOKEN_TEXT_SIZE];
    const char *token;                  /* sent with the next calls; NULL: none */
    /* the last answer */
    int status;
    bool closed;
    json_t *json;
    struct reply reply;
    struct request req;
};

static inline void fake_kick(void *server) { ((struct fake_server *)server)->kicks++; }
static inline void fake_cancel(void *server, const char *job_id)
{
    (void)job_id;
    ((struct fake_server *)server)->cancels++;
}
static inline bool fake_inspect(void *server, const char *team, enum asset_kind kind, const struct asset_file *files, size_t n,
                                char **ret_json, struct err *e)
{
    struct fake_server *s = server;
    (void)team, (void)kind, (void)files, (void)n;
    s->inspections++;
    if (!s->inventory)
        return err_set(e, ERR_MODEL_FORMAT, "file", "this is no model");
    *ret_json = strdup(s->inventory);
    return *ret_json;
}

static inline bool fake_validate(void *server, const char *team, const struct asset *model, const struct asset *data, char **ret_json,
                                 struct err *e)
{
    (void)team, (void)e;
    assert_true(model->nfiles && data->nfiles);
    ((struct fake_server *)server)->inspections++;
    *ret_json = strdup("{\"ok\":true,\"samples\":4,\"checks\":[]}");
    return *ret_json;
}
static inline bool fake_import(void *server, const char *team, const char *url, const char *want, struct upload *ret, struct err *e)
{
    (void)server, (void)team, (void)want, (void)ret;
    return err_set(e, ERR_TARGET, "/url", "%s is not listed", url);
}

static inline void api_open(struct api *a, struct fixture *f)
{
    struct token token;
    *a = (struct api){ .server.inventory = "{\"format\":\"onnx\",\"ops\":{}}" };
    a->fixture = f;
    a->app = (struct app){ .store = f->store, .version = "0", .max_upload = 1 << 20, .auth = true, .workers = 1, .server = &a->server,
                           .kick = fake_kick, .cancel = fake_cancel, .inspect = fake_inspect, .validate = fake_validate, .import = fake_import };
    assert_true(token_create(f->store, TEAM_LOCAL, "test", "admin", 0, &token, a->admin, NULL));
    a->token = a->admin;
    a->reply = REPLY_INIT;
}

static inline void api_forget(struct api *a)
{
    json_decref(a->json);
    reply_release(&a->reply);
    request_release(&a->req);
    a->json = NULL;
    a->req = (struct request){ 0 };
}

static inline void api_close(struct api *a)
{
    api_forget(a);
}

/* One request.  fields: name, value, ..., NULL, beside Host, Content-Length and the token.  Returns the status. */
static inline int api_call_with(struct api *a, const char *method, const char *target, const char *body, const char *const *fields)
{
    char length[24], bearer[TOKEN_TEXT_SIZE + 8];
    api_forget(a);
    request_open(&a->req, target);
    a->req.method = method;
    request_field(&a->req, "Host", "127.0.0.1:8080", 14);
    if (a->token) {
        snprintf(bearer, sizeof bearer, "Bearer %s", a->token);
        request_field(&a->req, "Authorization", bearer, strlen(bearer));
    }
    if (body) {
        snprintf(length, sizeof length, "%zu", strlen(body));
        request_field(&a->req, "Content-Length", length, strlen(length));
    }
    for (; *fields; fields += 2)
        request_field(&a->req, fields[0], fields[1], strlen(fields[1]));
    bool admitted = request_admit(&a->app, &a->req, &a->reply);
    if (admitted || a->req.known) {
        if (admitted && body)
            assert_true(request_body(&a->app, &a->req, body, strlen(body)));
        request_answer(&a->app, &a->req, &a->reply);
        if (a->reply.slow) {
            a->req.slow = true;
            request_answer(&a->app, &a->req, &a->reply);
        }
    }
    memset(a->req.header, 0, sizeof a->req.header);     /* they point into this frame */
    a->json = a->reply.text ? json_loads(a->reply.text, 0, NULL) : NULL;
    a->closed = a->reply.close;
    a->status = a->reply.status;
    return a->status;
}

static inline int api_call(struct api *a, const char *method, const char *target, const char *json)
{
    static const char *const typed[] = { "Content-Type", "application/json", NULL }, *const none[] = { NULL };
    return api_call_with(a, method, target, json, json ? typed : none);
}

static inline int api_upload(struct api *a, const char *target, const char *bytes)
{
    static const char *const none[] = { NULL };
    return api_call_with(a, "PUT", target, bytes, none);
}

/* One request of tus; fields as for api_call_with(), beside Tus-Resumable and the type. */
static inline int api_tus(struct api *a, const char *method, const char *target, const char *bytes, const char *const *fields)
{
    const char *all[16] = { "Tus-Resumable", "1.0.0", "Content-Type", "application/offset+octet-stream" };
    size_t n = bytes ? 4 : 2;
    for (; *fields && n < 14; fields += 2, n += 2) {
        all[n] = fields[0];
        all[n + 1] = fields[1];
    }
    all[n] = NULL;
    return api_call_with(a, method, target, bytes, all);
}

/* A member of the last answer, by names separated with dots; "" if it is no string. */
static inline const char *api_text(const struct api *a, const char *path)
{
    char names[128];
    snprintf(names, sizeof names, "%s", path);
    const json_t *v = a->json;
    char *rest = names;
    for (char *name; (name = strsep(&rest, "."));)
        v = json_object_get(v, name);
    return json_string_value(v) ? json_string_value(v) : "";
}

static inline const char *api_field(const struct api *a, const char *name)
{
    for (int i = 0; i < a->reply.fields; i++)
        if (strcmp(a->reply.field[i].name, name) == 0)
            return a->reply.field[i].value;
    return "";
}

static inline json_t *api_data(const struct api *a) { return json_object_get(a->json, "data"); }

#endif
