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

/* Ends a command: prints the failure (text to stderr, or with --json as the document on stdout); returns its exit code. */
int client_failed(struct client *c);
/* The command's document, with --json; decrefs.  Returns `exit`, or 3 if standard output fails. */
int client_json(struct client *c, json_t *doc, int exit);

/* A job's id in a path of the API, as "/v1/jobs/ID" + suffix; false with a usage failure if it cannot be one. */
bool job_path(struct client *c, const char *id, const char *suffix, char *ret, size_t size);

#endif
