/* pages.c - the dashboard: static files, the same for everybody; what they show they ask for over REST. */
#include "api/embed.h"
#include "api/handlers.h"
#include "api/request.h"

/* Scripts, styles and requests of our own origin and nothing else: no inline script or style, no frame, no form that goes anywhere. */
static const char policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
                             "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

static bool reply_page(struct reply *reply, const char *name, struct err *e)
{
    struct embedded file;
    if (!embed_dashboard(name, &file, &reply->type))
        return err_set(e, ERR_NOT_FOUND, "path", "the dashboard has no such file");
    reply->borrowed = file.data;
    reply->size = file.size;
    reply_field(reply, "Content-Security-Policy", "%s", policy);
    return true;
}

bool get_page(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    (void)app, (void)req;
    return reply_page(reply, "index.html", e);
}

bool get_dashboard_file(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    (void)app;
    return reply_page(reply, req->param[0], e);
}
