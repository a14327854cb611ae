/* command_login.c - `repquantctl login`: a token from standard input, never from the command line, where every user of a machine reads it. */
#include "client/account.h"
#include "client/show.h"

#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* One line, not echoed by a terminal. */
static bool read_secret(struct client *c, char *ret, int size)
{
    struct termios before, quiet;
    bool terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0;
    if (terminal) {
        fprintf(stderr, "token for %s: ", c->service.url);
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    }
    bool ok = fgets(ret, size, stdin);
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    ret[ok ? strcspn(ret, "\r\n") : 0] = '\0';
    if (interrupted())
        return fail(&c->f, EXIT_INTERRUPTED, "client.interrupted", "", "interrupted");
    return ret[0] || fail(&c->f, EXIT_USAGE, "client.token", "standard input", "there is no token; write: repquantctl login < FILE");
}

/* Which service, without what is remembered of it. */
static bool find_service(struct client *c)
{
    if (!account_load(c->o.url, c->o.ca, &c->service, &c->f))
        return false;
    memset(c->service.token, 0, sizeof c->service.token);
    return true;
}

static json_t *log_in(struct client *c, char *path, size_t size)
{
    char secret[256];
    if (!find_service(c) || !read_secret(c, secret, sizeof secret)
        || !account_token(secret, "standard input", c->service.token, sizeof c->service.token, &c->f) || !service_open(&c->service, &c->f))
        return NULL;
    c->service.patience_ms = (c->o.patience_s >= 0 ? c->o.patience_s : 10) * 1000;
    json_t *who = http_get(&c->service, "/v1/whoami", &c->f);
    if (who && !account_save(&c->service, path, size, &c->f)) {
        json_decref(who);
        return NULL;
    }
    return who;
}

int command_login(struct client *c)
{
    char path[512];
    json_t *who = log_in(c, path, sizeof path);
    if (!who)
        return client_failed(c);
    json_object_set_new(who, "url", json_string(c->service.url));
    json_object_set_new(who, "file", json_string(path));
    if (!c->o.json)
        show(stdout, "%s: team %s, role %s; the token is in %s\n", c->service.url, text_of(who, "team"), text_of(who, "role"), path);
    return client_json(c, who, EXIT_DONE);
}
