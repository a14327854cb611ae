#include "client/account.h"

#include "core/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_URL "http://127.0.0.1:8080"
enum { MAX_LOGIN = 1 << 20 };

static bool make_folder(const char *path, struct failure *f)
{
    return mkdir(path, 0700) == 0 || errno == EEXIST || fail_errno(f, path, "make the folder");
}

bool account_folder(const char *variable, const char *fallback, char *ret, size_t size, struct failure *f)
{
    char base[400];
    const char *xdg = getenv(variable), *home = getenv("HOME");
    if (xdg && *xdg == '/')             /* a relative one is to be ignored, says the XDG specification */
        snprintf(base, sizeof base, "%s", xdg);
    else if (home && *home == '/')
        snprintf(base, sizeof base, "%s/%s", home, fallback);
    else
        return fail(f, EXIT_ENVIRONMENT, "client.home", "HOME", "set HOME or %s, so that there is a place for this", variable);
    int n = snprintf(ret, size, "%s/repquant", base);
    if (n < 0 || (size_t)n >= size)
        return fail(f, EXIT_ENVIRONMENT, "client.home", variable, "the path is too long");
    return make_folder(base, f) && make_folder(ret, f);
}

static bool login_path(char *ret, size_t size, struct failure *f)
{
    char folder[440];
    if (!account_folder("XDG_CONFIG_HOME", ".config", folder, sizeof folder, f))
        return false;
    snprintf(ret, size, "%s/login.json", folder);
    return true;
}

static bool owner_only(int fd, const char *path, struct failure *f)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return fail_errno(f, path, "look at");
    return (st.st_mode & 077) == 0
        || fail(f, EXIT_ENVIRONMENT, "client.login", path, "others can read the tokens in it; chmod 600 it, and think about new ones");
}

json_t *load_object(const char *path, bool private, struct failure *f)
{
    struct err e = { 0 };
    char *text = NULL;
    size_t n = 0;
    json_t *doc = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && private)
        return json_object();
    if (fd < 0) {
        fail_errno(f, path, "open");
        return NULL;
    }
    if ((!private || owner_only(fd, path, f)) && io_read_all(fd, path, MAX_LOGIN, &text, &n, &e))
        doc = json_parse(text, n, 32, ERR_REQUEST_JSON, &e);
    if (!f->exit && !json_is_object(doc)) {
        fail(f, EXIT_INPUT, "client.json", path, "%s", e.code ? e.text : "the file must hold a JSON object");
        json_decref(doc);
        doc = NULL;
    }
    free(text);
    close(fd);
    return doc;
}

bool save_private(const char *path, const char *text, struct failure *f)
{
    char half[600];
    snprintf(half, sizeof half, "%s.XXXXXX", path);
    int fd = mkostemp(half, O_CLOEXEC);         /* 0600 from the start */
    bool ok = fd >= 0 && io_write_all(fd, text, strlen(text)) == 0 && fsync(fd) == 0 && rename(half, path) == 0;
    if (!ok) {
        fail_errno(f, path, "write");
        if (fd >= 0)
            unlink(half);
    }
    if (fd >= 0)
        close(fd);
    return ok;
}

bool account_token(const char *text, const char *where, char *ret, size_t size, struct failure *f)
{
    size_t n = strlen(text);
    bool ok = strncmp(text, "rq_", 3) == 0 && n < size;
    for (size_t i = 0; i < n && ok; i++)
        ok = text[i] > 0x20 && text[i] < 0x7f;
    if (!ok)
        return fail(f, EXIT_ENVIRONMENT, "client.token", where, "this is not a token: they begin with rq_ and have no spaces");
    snprintf(ret, size, "%s", text);
    return true;
}

/* The login of this URL, if there is one. */
static bool take_login(const json_t *login, struct service *s, const char *path, struct failure *f)
{
    const char *token = json_string_value(json_object_get(json_object_get(login, "tokens"), s->url));
    return !token || account_token(token, path, s->token, sizeof s->token, f);
}

bool account_load(const char *url, const char *ca, struct service *ret, struct failure *f)
{
    char path[512];
    const char *token = getenv("REPQUANT_TOKEN");
    json_t *login = NULL;
    struct failure homeless = { 0 };
    if (!url || !*url)
        url = getenv("REPQUANT_URL");
    if (login_path(path, sizeof path, &homeless) && !(login = load_object(path, true, f)))
        return false;
    if (!url || !*url)
        url = json_string_value(json_object_get(login, "default"));
    ret->ca = ca ? ca : getenv("REPQUANT_CA");
    if (ret->ca && !*ret->ca)
        ret->ca = NULL;
    bool ok = service_url(url ? url : DEFAULT_URL, ret->url, sizeof ret->url, f);
    if (ok && token && *token)
        ok = account_token(token, "REPQUANT_TOKEN", ret->token, sizeof ret->token, f);
    else if (ok)
        ok = take_login(login, ret, path, f);
    json_decref(login);
    return ok;
}

bool account_save(const struct service *s, char *ret_path, size_t size, struct failure *f)
{
    json_t *login = login_path(ret_path, size, f) ? load_object(ret_path, true, f) : NULL;
    if (!login)
        return false;
    if (!json_is_object(json_object_get(login, "tokens")))
        json_object_set_new(login, "tokens", json_object());
    json_object_set_new(json_object_get(login, "tokens"), s->url, json_string(s->token));
    json_object_set_new(login, "default", json_string(s->url));
    char *text = json_text(login, JSON_INDENT(2) | JSON_SORT_KEYS);
    bool ok = text ? save_private(ret_path, text, f) : fail(f, EXIT_ENVIRONMENT, "client.memory", "", "no memory");
    free(text);
    json_decref(login);
    return ok;
}
