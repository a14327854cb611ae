/*
 * outbound.c - libcurl as a transport, and nothing else of it: no redirects, no proxies, no pooled connections, no other protocol.
 *
 * libcurl resolves a name and asks us for a socket for each address it wants to try; that is where the rule is applied, so there
 * is no moment between the check and the connection in which a name could change its mind.
 */
#include "server/outbound.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { MAX_HOSTS = 64, MAX_NETS = 32, MAX_HOPS = 3, CONNECT_SECONDS = 10, SLOW_BYTES = 1024, SLOW_SECONDS = 30, URL_MAX = 8192, HEAD_MAX = 64 << 10 };

struct outbound {
    const char *ca;
    char *text;                             /* of the hosts, cut into pieces */
    const char *hosts[MAX_HOSTS];
    int nhosts;
    struct net nets[MAX_NETS];
    int nnets;
};

struct outbound *outbound_new(const char *hosts, const char *nets, const char *ca, struct err *e)
{
    struct outbound *o = calloc(1, sizeof *o);
    if (!o || !(o->text = strdup(hosts)) || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        err_set(e, ERR_MEMORY, "outbound", "no memory for outgoing requests");
        outbound_free(o);
        return NULL;
    }
    o->ca = ca;
    o->nnets = net_list(nets, o->nets, MAX_NETS, e);
    char *rest = o->text;
    for (char *host; o->nnets >= 0 && (host = strsep(&rest, ", "));) {
        if (*host && o->nhosts == MAX_HOSTS)
            o->nnets = err_set(e, ERR_CONFIG, "import-hosts", "at most %d hosts", (int)MAX_HOSTS) ? 0 : -1;
        else if (*host)
            o->hosts[o->nhosts++] = host;
    }
    if (o->nnets >= 0)
        return o;
    outbound_free(o);
    return NULL;
}

void outbound_free(struct outbound *o)
{
    if (!o)
        return;
    free(o->text);
    free(o);
    curl_global_cleanup();
}

/* ---- where it may go ---- */

/* An address in the place of a name can be judged at once; true where there is a name. */
static bool literal_allowed(const struct outbound *o, const char *host)
{
    struct sockaddr_in four = { .sin_family = AF_INET };
    struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
    char inner[64];
    snprintf(inner, sizeof inner, "%.*s", (int)strcspn(host + (host[0] == '['), "]"), host + (host[0] == '['));
    if (inet_pton(AF_INET, inner, &four.sin_addr) == 1)
        return address_allowed((const struct sockaddr *)(const void *)&four, o->nets, o->nnets);
    return inet_pton(AF_INET6, inner, &six.sin6_addr) != 1 || address_allowed((const struct sockaddr *)(const void *)&six, o->nets, o->nnets);
}

/* Where no host is listed, the ports of other services are not for HTTP. */
static bool port_allowed(const char *port)
{
    enum { HTTPS = 443, FIRST_FREE = 1024 };
    long n = strtol(port, NULL, 10);
    return n == HTTPS || n >= FIRST_FREE;
}

/* "name", "name:port" or "*.name" of the list against a URL's host and port. */
static bool host_matches(const char *entry, const char *host, const char *port)
{
    const char *colon = strrchr(entry, ':'), *want_port = colon ? colon + 1 : "443";
    size_t n = colon ? (size_t)(colon - entry) : strlen(entry), have = strlen(host);
    if (have && host[have - 1] == '.')
        have--;
    if (strcmp(want_port, port) != 0)
        return false;
    if (strncmp(entry, "*.", 2) == 0)       /* at least one label in the place of the star */
        return have > n - 1 && strncasecmp(host + have - (n - 1), entry + 1, n - 1) == 0;
    return have == n && strncasecmp(host, entry, n) == 0;
}

static bool host_listed(const struct outbound *o, const char *host, const char *port)
{
    for (int i = 0; i < o->nhosts; i++)
        if (host_matches(o->hosts[i], host, port))
            return true;
    return false;
}

static bool forbidden(struct err *e, const char *why) { return err_set(e, ERR_TARGET, "/url", "%s", why); }

static bool check_parts(const struct outbound *o, CURLU *u, bool listed, struct err *e)
{
    char *host = NULL, *port = NULL, *user = NULL, *password = NULL, *zone = NULL;
    bool ok;
    curl_url_get(u, CURLUPART_HOST, &host, 0);
    curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
    curl_url_get(u, CURLUPART_USER, &user, 0);
    curl_url_get(u, CURLUPART_PASSWORD, &password, 0);
    curl_url_get(u, CURLUPART_ZONEID, &zone, 0);
    if (user || password || zone)
        ok = forbidden(e, "the URL must not carry a user, a password or a zone; sign it instead");
    else if (!host || !port || (listed && !host_listed(o, host, port)))
        ok = forbidden(e, o->nhosts ? "this host is not among those the operator allows imports from"
                                    : "imports are off: the operator lists no hosts (--import-hosts)");
    else if (!literal_allowed(o, host))
        ok = forbidden(e, "this address is not public, and the operator does not list it (--outbound-private)");
    else if (!listed && !port_allowed(port))
        ok = forbidden(e, "give a URL with port 443 or one from 1024 on");
    else
        ok = true;
    char *const all[] = { host, port, user, password, zone };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        curl_free(all[i]);
    return ok;
}

bool outbound_check(const struct outbound *o, const char *url, bool listed, struct err *e)
{
    static const char start[] = "https://";
    if (strncasecmp(url, start, sizeof start - 1) != 0 || url[sizeof start - 1] == '/')       /* libcurl takes one slash, or three, for two */
        return forbidden(e, "give an https URL");
    CURLU *u = strlen(url) < URL_MAX ? curl_url() : NULL;
    if (!u)
        return forbidden(e, "the URL is too long");
    bool ok = curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK ? check_parts(o, u, listed, e) : forbidden(e, "this is not a URL that can be asked for");
    curl_url_cleanup(u);
    return ok;
}

bool outbound_origin(const char *url, char *ret, size_t size)
{
    char *host = NULL, *port = NULL;
    CURLU *u = curl_url();
    bool ok = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK && curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK
           && curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK;
    if (ok)
        snprintf(ret, size, "%s:%s", host, port);
    for (char *s = ret; ok && *s; s++)
        *s = (char)tolower((unsigned char)*s);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return ok;
}

/* ---- one exchange ---- */

struct exchange {
    struct outbound *o;
    const struct outbound_request *r;
    CURL *curl;
    bool blocked, told;                     /* an address was refused; head() was called */
    bool redirect;                          /* the answer only says where else to ask */
    uint64_t taken, head;                   /* bytes of the body and of the fields before it */
    struct err *e;
};

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct exchange *x = arg;
    if (x->blocked || purpose != CURLSOCKTYPE_IPCXN || !address_allowed(&a->addr, x->o->nets, x->o->nnets)) {
        x->blocked = true;
        return CURL_SOCKET_BAD;
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static int watch(void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up)
{
    const struct exchange *x = arg;
    (void)total, (void)now, (void)up_total, (void)up;
    return x->r->stop && atomic_load(x->r->stop);
}

/* Bytes in a content coding are not the bytes that were asked for. */
static bool plain_coding(const struct exchange *x)
{
    struct curl_header *h;
    if (strcmp(x->r->method, "GET") != 0 || curl_easy_header(x->curl, "Content-Encoding", 0, CURLH_HEADER, -1, &h) != CURLHE_OK || strcasecmp(h->value, "identity") == 0)
        return true;
    return err_set(x->e, ERR_TARGET_FAILED, "/url", "the server sent a content coding nobody asked for");
}

static bool tell_head(struct exchange *x)
{
    long status = 0;
    curl_off_t length = -1;
    if (x->told)
        return true;
    x->told = true;
    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(x->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    x->redirect = x->r->listed && status >= 300 && status < 400;
    return x->redirect || (plain_coding(x) && x->r->head(x->r->arg, (int)status, length, x->e));
}

static size_t take_bytes(char *p, size_t one, size_t n, void *arg)
{
    struct exchange *x = arg;
    (void)one;
    if (!tell_head(x))
        return 0;
    if (n > x->r->limit - x->taken) {
        err_set(x->e, ERR_TARGET_FAILED, "/url", "more than %llu bytes came", (unsigned long long)x->r->limit);
        return 0;
    }
    x->taken += n;
    return x->redirect || x->r->take(x->r->arg, p, n, x->e) ? n : 0;
}

static size_t take_head(char *p, size_t one, size_t n, void *arg)
{
    struct exchange *x = arg;
    (void)p, (void)one;
    x->head += n;
    if (x->head <= HEAD_MAX)
        return n;
    err_set(x->e, ERR_TARGET_FAILED, "/url", "the head of the answer has more than %d bytes", (int)HEAD_MAX);
    return 0;
}

/* libcurl copies texts and may lack the memory: a request that goes out without one of these is another request. */
static bool set_options(struct exchange *x, const char *url, struct curl_slist *fields)
{
    CURL *c = x->curl;
    const struct outbound_request *r = x->r;
    bool ok = true;
#define SET(option, value) (ok = ok && curl_easy_setopt(c, option, value) == CURLE_OK)
    SET(CURLOPT_URL, url);
    SET(CURLOPT_PROTOCOLS_STR, "https");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    if (x->o->ca[0]) {
        SET(CURLOPT_CAINFO, x->o->ca);
        SET(CURLOPT_CAPATH, NULL);      /* the system's folder, which libcurl may have been built with, would be trusted beside it */
    }
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    SET(CURLOPT_TIMEOUT, (long)r->seconds);
    SET(CURLOPT_LOW_SPEED_LIMIT, (long)SLOW_BYTES);
    SET(CURLOPT_LOW_SPEED_TIME, (long)SLOW_SECONDS);
    SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
    SET(CURLOPT_OPENSOCKETDATA, x);
    SET(CURLOPT_WRITEFUNCTION, take_bytes);
    SET(CURLOPT_WRITEDATA, x);
    SET(CURLOPT_HEADERFUNCTION, take_head);
    SET(CURLOPT_HEADERDATA, x);
    SET(CURLOPT_XFERINFOFUNCTION, watch);
    SET(CURLOPT_XFERINFODATA, x);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_USERAGENT, "repquant/" VERSION);
    SET(CURLOPT_HTTPHEADER, fields);
    if (strcmp(r->method, "POST") == 0) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDS, r->body);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_n);
    }
#undef SET
    return ok || err_set(x->e, ERR_MEMORY, "/url", "no memory for a request");
}

/* All of them or none; *ret is NULL where there are none. */
static bool list_fields(const char *const *fields, struct curl_slist **ret, struct err *e)
{
    *ret = NULL;
    for (const char *const *f = fields; f && *f; f++) {
        struct curl_slist *longer = curl_slist_append(*ret, *f);
        if (!longer)
            return err_set(e, ERR_MEMORY, "/url", "no memory for the head of a request");
        *ret = longer;
    }
    return true;
}

/* What the caller's functions said comes first; it made libcurl stop. */
static bool outcome(const struct exchange *x, CURLcode code)
{
    if (x->e->code)
        return false;
    if (code == CURLE_OK)
        return true;
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return err_set(x->e, ERR_DRAINING, "", "the service is shutting down; ask again later");
    if (x->blocked)
        return forbidden(x->e, "the host's address is not one that may be connected to");
    return err_set(x->e, ERR_TARGET_FAILED, "/url", "the server could not be asked: %s", curl_easy_strerror(code));
}

/* Sends it and looks at what came; *ret_next as in exchange(). */
static bool perform(struct exchange *x, struct outbound_answer *ret, char **ret_next)
{
    long status = 0;
    curl_off_t wait = 0;
    char *next = NULL;
    CURLcode code = curl_easy_perform(x->curl);
    bool ok = (code != CURLE_OK || tell_head(x)) && outcome(x, code);
    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(x->curl, CURLINFO_RETRY_AFTER, &wait);
    *ret = (struct outbound_answer){ .status = (int)status, .retry_after = wait };
    if (!ok || !x->redirect)
        return ok;
    if (curl_easy_getinfo(x->curl, CURLINFO_REDIRECT_URL, &next) != CURLE_OK || !next)
        return err_set(x->e, ERR_TARGET_FAILED, "/url", "the server redirects to nowhere");
    *ret_next = strdup(next);
    return *ret_next || err_sys(x->e, "/url", "copy");
}

/* One request; *ret_next: where a redirect leads, malloc'd, or NULL. */
static bool exchange(struct outbound *o, const struct outbound_request *r, const char *url, struct outbound_answer *ret, char **ret_next,
                     struct err *e)
{
    struct exchange x = { .o = o, .r = r, .curl = curl_easy_init(), .e = e };
    struct curl_slist *fields;
    *ret_next = NULL;
    *ret = (struct outbound_answer){ 0 };
    if (!x.curl)
        return err_set(e, ERR_MEMORY, "/url", "no memory for a request");
    bool ok = list_fields(r->fields, &fields, e) && set_options(&x, url, fields) && perform(&x, ret, ret_next);
    curl_slist_free_all(fields);
    curl_easy_cleanup(x.curl);
    return ok;
}

bool outbound_run(struct outbound *o, const struct outbound_request *r, struct outbound_answer *ret, struct err *e)
{
    struct err why = { 0 };
    char *url = strdup(r->url), *next = NULL;
    *ret = (struct outbound_answer){ 0 };
    bool ok = url || err_sys(&why, "/url", "copy");
    for (int hop = 0; ok; hop++) {
        ok = outbound_check(o, url, r->listed, &why) && exchange(o, r, url, ret, &next, &why);
        free(url);
        url = next;
        next = NULL;
        if (!url)
            break;
        if (ok && hop == MAX_HOPS)
            ok = err_set(&why, ERR_TARGET_FAILED, "/url", "the server redirects more than %d times", (int)MAX_HOPS);
    }
    free(url);
    return ok || err_set(e, why.code, why.where, "%s", why.text);
}
