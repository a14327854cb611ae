/* artifacts.c - the files a job has made. */
#include "api/app.h"
#include "api/handlers.h"
#include "api/rows.h"
#include "api/serve.h"
#include "storage/result.h"

#include <stdio.h>

static json_t *artifact_json(const struct artifact *a)
{
    char content[96];
    snprintf(content, sizeof content, "/v1/artifacts/%s/content", a->id);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:o, s:b, s:{s:s}}", "id", a->id, "job_id", a->job_id, "name", a->name,
                     "media_type", a->media_type, "digest", a->digest, "bytes", (json_int_t)a->size,
                     "created_at", row_time(a->created_at), "corrupt", (int)a->corrupt, "urls", "content", content);
}

bool list_job_artifacts(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct artifact_list list = { 0 };
    if (!artifact_list(app->store, req->who.team, req->param[0], &list, e))
        return false;
    json_t *data = json_array();
    for (size_t i = 0; i < list.n; i++)
        json_array_append_new(data, artifact_json(&list.items[i]));
    artifact_list_release(&list);
    return reply_json(reply, 200, row_list(data, false, ""), e);
}

bool get_artifact(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct artifact a;
    return artifact_get(app->store, req->who.team, req->param[0], &a, e) && reply_json(reply, 200, artifact_json(&a), e);
}

bool get_artifact_content(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct artifact a;
    return artifact_get(app->store, req->who.team, req->param[0], &a, e) && reply_stored_file(app, req, reply, a.digest, a.name, e);
}
