/* client.h - what every command has at hand, and the commands. */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include "client/http.h"
#include "client/options.h"

struct client {
    struct options o;
    struct service service;
    struct failure f;           /* why the command ends */
    bool terminal;              /* progress is drawn, not listed */
};

int command_submit(struct client *c);
int command_status(struct client *c);
int command_wait(struct client *c);
int command_events(struct client *c);
int command_download(struct client *c);
int command_cancel(struct client *c);
int command_login(struct client *c);

/* Ready to ask: URL and token from options, environment and login. */
bool client_open(struct client *c);

/* Ends a command: prints the failure (text to stderr, or with --json as the document on stdout); returns its exit code, which is never 0. */
int client_failed(struct client *c);
/* The command's document, with --json; decrefs.  Returns `exit`, or 3 if standard output fails. */
int client_json(struct client *c, json_t *doc, int exit);

/* Can this be the service's id of such a thing ("job_", "mdl_")?  An id goes into paths. */
bool id_ok(const char *id, const char *prefix);
/* A job's id in a path of the API, as "/v1/jobs/ID" + suffix; false with a usage failure if it cannot be one. */
bool job_path(struct client *c, const char *id, const char *suffix, char *ret, size_t size);

#endif
