#include "client/http.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { CONNECT_SECONDS = 15, SLOW_BYTES = 1, SLOW_SECONDS = 60, INSPECT_SECONDS = 900, EXPECT_MS = 10000, MAX_BODY = 64 << 20, MAX_DEPTH = 64 };

/* ---- the URL ---- */

static bool take_part(CURLU *u, CURLUPart what, char *ret, size_t size)
{
    char *text = NULL;
    bool ok = curl_url_get(u, what, &text, 0) == CURLUE_OK && strlen(text) < size;
    if (ok)
        snprintf(ret, size, "%s", text);
    curl_free(text);
    return ok;
}

static bool has_part(CURLU *u, CURLUPart what)
{
    char *text = NULL;
    bool has = curl_url_get(u, what, &text, 0) == CURLUE_OK;
    curl_free(text);
    return has;
}

static bool bad_url(struct failure *f, const char *text, const char *why)
{
    return fail(f, EXIT_USAGE, "client.url", text, "%s; write it like https://quant.example or http://127.0.0.1:8080", why);
}

static bool take_url(CURLU *u, const char *text, char *ret, size_t size, struct failure *f)
{
    char scheme[16], host[256], port[16] = "", path[256] = "";
    if (curl_url_set(u, CURLUPART_URL, text, 0) != CURLUE_OK || !take_part(u, CURLUPART_SCHEME, scheme, sizeof scheme)
        || !take_part(u, CURLUPART_HOST, host, sizeof host))
        return bad_url(f, text, "this is not the URL of a service");
    if (strcasecmp(scheme, "http") != 0 && strcasecmp(scheme, "https") != 0)
        return bad_url(f, text, "the URL must begin with https:// or http://");
    if (has_part(u, CURLUPART_USER) || has_part(u, CURLUPART_PASSWORD) || has_part(u, CURLUPART_QUERY) || has_part(u, CURLUPART_FRAGMENT))
        return bad_url(f, "the URL", "the URL must not hold a user, a password or a query; the token goes to `repquantctl login`");
    take_part(u, CURLUPART_PORT, port, sizeof port);
    if (has_part(u, CURLUPART_PATH) && !take_part(u, CURLUPART_PATH, path, sizeof path))
        return bad_url(f, text, "the path is too long");
    for (size_t n = strlen(path); n && path[n - 1] == '/'; n--)
        path[n - 1] = '\0';
    for (char *c = host; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    int n = snprintf(ret, size, "%s://%s%s%s%s", strcasecmp(scheme, "https") == 0 ? "https" : "http", host, port[0] ? ":" : "", port, path);
    return (n > 0 && (size_t)n < size) || bad_url(f, text, "the URL is too long");
}

bool service_url(const char *text, char *ret, size_t size, struct failure *f)
{
    CURLU *u = curl_url();
    if (!u)
        return fail(f, EXIT_ENVIRONMENT, "client.memory", "", "no memory");
    bool ok = strstr(text, "://") ? take_url(u, text, ret, size, f) : bad_url(f, text, "the URL must begin with https:// or http://");
    curl_url_cleanup(u);
    return ok;
}

/* An address that never leaves this machine: 127.0.0.0/8 in digits, [::1], or the name that libcurl resolves to these itself. */
static bool loopback(const char *host)
{
    uint8_t address[4];
    if (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
        return true;
    return inet_pton(AF_INET, host, address) == 1 && address[0] == 127;
}

bool service_check(const struct service *s, struct failure *f)
{
    char host[256];
    CURLU *u = curl_url();
    bool plain = strncmp(s->url, "http://", 7) == 0;
    bool near = u && curl_url_set(u, CURLUPART_URL, s->url, 0) == CURLUE_OK && take_part(u, CURLUPART_HOST, host, sizeof host) && loopback(host);
    curl_url_cleanup(u);
    if (plain && s->token[0] && !near)
        return fail(f, EXIT_ENVIRONMENT, "client.plain_http", s->url,
                    "a token is not sent over plain http, where others can read it; use https, or reach the service through 127.0.0.1 (ssh -L)");
    return true;
}

bool service_open(struct service *s, struct failure *f)
{
    if (!service_check(s, f))
        return false;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(s->curl = curl_easy_init()))
        return fail(f, EXIT_ENVIRONMENT, "client.memory", "", "libcurl could not be started");
    return true;
}

void service_close(struct service *s)
{
    if (s->curl) {
        curl_easy_cleanup(s->curl);
        curl_global_cleanup();
    }
    s->curl = NULL;
}

/* ---- one exchange ---- */

struct exchange {
    struct service *s;
    const struct http_request *r;
    struct http_answer *a;
    struct failure *f;
    struct buf body;
    uint64_t sent;
    bool headed;
};

static void take_headers(struct exchange *x)
{
    static const char *const names[H_HEADERS] = {
        "Location", "Retry-After", "Upload-Offset", "Blob-Digest", "Content-Range", "Idempotency-Replayed", "X-Request-Id",
    };
    struct curl_header *h;
    if (x->headed)
        return;
    x->headed = true;
    curl_easy_getinfo(x->s->curl, CURLINFO_RESPONSE_CODE, &x->a->status);
    for (int i = 0; i < H_HEADERS; i++)
        if (curl_easy_header(x->s->curl, names[i], 0, CURLH_HEADER, -1, &h) == CURLHE_OK)
            snprintf(x->a->header[i], sizeof x->a->header[i], "%s", h->value);
}

static size_t on_bytes(char *p, size_t one, size_t n, void *arg)
{
    struct exchange *x = arg;
    (void)one;
    take_headers(x);
    if (x->r->take && x->a->status < 300)
        return x->r->take(x->r->arg, x->a->status, x->a, p, n, x->f) ? n : 0;
    buf_add(&x->body, p, n);
    return x->body.bad ? 0 : n;
}

static size_t on_read(char *p, size_t one, size_t n, void *arg)
{
    struct exchange *x = arg;
    uint64_t left = x->r->length - x->sent;
    size_t most = one * n < left ? one * n : (size_t)left;
    ssize_t got = most ? pread(x->r->fd, p, most, (off_t)(x->r->from + x->sent)) : 0;
    if (got < 0 || (got == 0 && most)) {
        fail(x->f, EXIT_INPUT, "client.file", "", got ? "the file can no longer be read" : "the file has become shorter while it was sent");
        return CURL_READFUNC_ABORT;
    }
    x->sent += (uint64_t)got;
    if (x->r->sent)
        x->r->sent(x->r->arg, x->r->from + x->sent);
    return (size_t)got;
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct exchange *x = arg;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > x->r->length)
        return CURL_SEEKFUNC_CANTSEEK;
    x->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

static int on_watch(void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up)
{
    (void)arg, (void)total, (void)now, (void)up_total, (void)up;
    return interrupted();
}

/* libcurl copies texts and may lack the memory: a request that goes out without one of these is another request. */
#define SET(option, value) (ok = ok && curl_easy_setopt(c, option, value) == CURLE_OK)

static bool set_connection(struct exchange *x)
{
    CURL *c = x->s->curl;
    bool ok = true;
    curl_easy_reset(c);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (strncmp(x->s->url, "http://", 7) == 0)
        SET(CURLOPT_PROXY, "");         /* a proxy would read the token */
    if (x->s->ca) {
        SET(CURLOPT_CAINFO, x->s->ca);
        SET(CURLOPT_CAPATH, NULL);      /* the system's folder, which libcurl may have been built with, would be trusted beside it */
    }
    SET(CURLOPT_NOSIGNAL, 1L);
    /* On a connection that was used before, libcurl sends again by itself when it breaks without an answer. */
    SET(CURLOPT_FRESH_CONNECT, (long)(x->r->once || x->r->single));
    SET(CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    SET(CURLOPT_LOW_SPEED_LIMIT, (long)SLOW_BYTES);
    /* Before the service answers that a model is registered, it has looked into all of it. */
    SET(CURLOPT_LOW_SPEED_TIME, (long)(x->r->once ? INSPECT_SECONDS : SLOW_SECONDS));
    int64_t left = x->s->until - now_ms();
    if (x->s->until)
        SET(CURLOPT_TIMEOUT_MS, (long)(left > 0 ? left : 1));       /* 0 would be: without end */
    SET(CURLOPT_EXPECT_100_TIMEOUT_MS, (long)EXPECT_MS);
    SET(CURLOPT_USERAGENT, "repquantctl/" VERSION);
    SET(CURLOPT_XFERINFOFUNCTION, on_watch);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_WRITEFUNCTION, on_bytes);
    SET(CURLOPT_WRITEDATA, x);
    return ok;
}

static bool set_body(struct exchange *x)
{
    CURL *c = x->s->curl;
    bool ok = true;
    const struct http_request *r = x->r;
    if (r->fd > 0) {
        SET(CURLOPT_UPLOAD, 1L);
        SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->length);
        SET(CURLOPT_READFUNCTION, on_read);
        SET(CURLOPT_READDATA, x);
        SET(CURLOPT_SEEKFUNCTION, on_seek);
        SET(CURLOPT_SEEKDATA, x);
    } else if (strcmp(r->method, "POST") == 0) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDS, r->json ? r->json : "");
    } else if (strcmp(r->method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1L);
    }
    SET(CURLOPT_CUSTOMREQUEST, strcmp(r->method, "HEAD") == 0 ? NULL : r->method);
    return ok;
}

static bool add_field(struct curl_slist **list, const char *text)
{
    struct curl_slist *longer = curl_slist_append(*list, text);
    if (longer)
        *list = longer;
    return longer;
}

/* All of them; *ret is the caller's in any case. */
static bool list_fields(const struct exchange *x, struct curl_slist **ret)
{
    char text[320];
    bool ok = true;
    *ret = NULL;
    if (x->s->token[0]) {
        snprintf(text, sizeof text, "Authorization: Bearer %s", x->s->token);
        ok = add_field(ret, text);
    }
    if (x->r->json)
        ok = ok && add_field(ret, "Content-Type: application/json");
    else if (strcmp(x->r->method, "POST") == 0)
        ok = ok && add_field(ret, "Content-Type:");
    for (const char *const *field = x->r->fields; *field; field++)
        ok = ok && add_field(ret, *field);
    return ok;
}

static bool set_request(struct exchange *x, const char *url, char detail[CURL_ERROR_SIZE], struct curl_slist **ret_fields)
{
    CURL *c = x->s->curl;
    bool ok = list_fields(x, ret_fields) && set_connection(x) && set_body(x);
    SET(CURLOPT_URL, url);
    SET(CURLOPT_HTTPHEADER, *ret_fields);
    SET(CURLOPT_ERRORBUFFER, detail);
    return ok || fail(x->f, EXIT_ENVIRONMENT, "client.memory", "", "no memory for the request");
}
#undef SET

/* What can pass: the daemon restarts, a cable is pulled.  What will not: a certificate, a name that does not exist. */
static bool passing(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_SSL_CONNECT_ERROR:       /* the handshake broke off; a certificate that is not trusted has a code of its own */
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_SEND_FAIL_REWIND: return true;
    default: return false;
    }
}

static bool network_failed(struct exchange *x, CURLcode code, const char *detail)
{
    bool sent = code != CURLE_COULDNT_CONNECT && code != CURLE_COULDNT_RESOLVE_HOST && code != CURLE_SSL_CONNECT_ERROR;
    if (x->f->exit)
        return false;
    if (interrupted())
        return fail(x->f, EXIT_INTERRUPTED, "client.interrupted", "", "interrupted");
    if (x->body.bad)
        return fail(x->f, EXIT_ENVIRONMENT, "client.answer", x->s->url, "the answer is longer than any of repquantd's");
    x->f->again = passing(code) && !(x->r->once && sent);
    snprintf(x->f->what, sizeof x->f->what, "The service could not be asked");
    return fail(x->f, EXIT_ENVIRONMENT, "client.network", x->s->url, "%s%s%s%s", curl_easy_strerror(code), detail[0] ? ": " : "", detail,
                code == CURLE_SSL_CONNECT_ERROR ? "; is this a port of https?" : "");
}

bool http_unknown(const struct failure *f)
{
    return strcmp(f->code, "client.network") == 0 || f->status == 502 || f->status == 504;
}

static bool take_answer(struct exchange *x)
{
    struct err e = { 0 };
    take_headers(x);
    x->a->json = x->body.n ? json_parse(x->body.p, x->body.n, MAX_DEPTH, ERR_REQUEST_JSON, &e) : NULL;
    if (x->a->status < 300)
        return !x->body.n || x->a->json
            || fail(x->f, EXIT_ENVIRONMENT, "client.answer", x->s->url, "the answer is not JSON; is this the URL of a repquantd?");
    fail_problem(x->f, x->a->status, x->a->json);
    if (x->r->once && http_unknown(x->f))
        x->f->again = false;
    x->f->wait_s = retry_after(x->a->header[H_RETRY_AFTER], (int64_t)time(NULL));
    if (!x->f->request_id[0])
        snprintf(x->f->request_id, sizeof x->f->request_id, "%.63s", x->a->header[H_REQUEST_ID]);
    return false;
}

static bool send_once(struct service *s, const struct http_request *r, struct http_answer *ret, struct failure *f)
{
    char url[1024], detail[CURL_ERROR_SIZE] = "";
    struct exchange x = { .s = s, .r = r, .a = ret, .f = f, .body = BUF_INIT(MAX_BODY) };
    *ret = (struct http_answer){ 0 };
    snprintf(url, sizeof url, "%s%s", s->url, r->path);
    struct curl_slist *list;
    bool ok = set_request(&x, url, detail, &list);
    if (ok) {
        CURLcode code = curl_easy_perform(s->curl);
        ok = code == CURLE_OK ? take_answer(&x) : network_failed(&x, code, detail);
    }
    curl_easy_reset(s->curl);           /* what it was told lies here */
    curl_slist_free_all(list);
    buf_release(&x.body);
    return ok;
}

struct backoff service_backoff(const struct service *s)
{
    return (struct backoff){ .patience_ms = s->patience_ms, .until = s->until, .tell = s->waiting, .arg = s->arg };
}

bool http_send(struct service *s, const struct http_request *r, struct http_answer *ret, struct failure *f)
{
    struct backoff b = service_backoff(s);
    while (!send_once(s, r, ret, f)) {
        http_release(ret);
        if (r->single || !backoff_again(&b, f))
            return false;
    }
    return true;
}

void http_release(struct http_answer *a)
{
    json_decref(a->json);
    a->json = NULL;
}

static json_t *ask(struct service *s, const struct http_request *r, struct failure *f)
{
    struct http_answer a;
    if (!http_send(s, r, &a, f))
        return NULL;
    if (!json_is_object(a.json)) {
        fail(f, EXIT_ENVIRONMENT, "client.answer", s->url, "the answer is not a JSON object; is this the URL of a repquantd?");
        http_release(&a);
    }
    return a.json;
}

json_t *http_get(struct service *s, const char *path, struct failure *f)
{
    return ask(s, &(struct http_request){ .method = "GET", .path = path }, f);
}

json_t *http_post(struct service *s, const char *path, const char *json, bool once, struct failure *f)
{
    return ask(s, &(struct http_request){ .method = "POST", .path = path, .json = json, .once = once }, f);
}
