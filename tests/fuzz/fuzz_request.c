/*
 * fuzz_request.c - libFuzzer over the small parsers of a request, a line for each: target (with a cursor in its query), Range,
 * If-None-Match, digest, base64, trusted proxies, X-Forwarded-For, token; then fields of a head, cookies among them.
 */
#include "api/access.h"
#include "api/request.h"
#include "api/rows.h"
#include "api/serve.h"
#include "core/base/hash.h"
#include "storage/inner.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text)
{
    for (; *text; text++)
        assert((unsigned char)*text >= 0x20 && *text != 0x7f);
}

static void check_target(const char *line)
{
    struct target t;
    struct err e = { 0 };
    if (!target_parse(line, &t, &e)) {
        assert(e.code == ERR_REQUEST_FRAMING || e.code == ERR_MEMORY);
        target_release(&t);
        return;
    }
    assert(line[0] == '/' && t.segments <= REQUEST_MAX_SEGMENTS && t.queries <= REQUEST_MAX_QUERY);
    for (int i = 0; i < t.segments; i++) {
        check_text(t.segment[i]);
        assert(strcmp(t.segment[i], ".") != 0 && strcmp(t.segment[i], "..") != 0 && !strpbrk(t.segment[i], "/\\"));
    }
    for (int i = 0; i < t.queries; i++) {
        check_text(t.query[i].name);
        check_text(t.query[i].value);
    }
    check_text(t.path);
    target_release(&t);
}

static void check_range(const char *line)
{
    static const uint64_t sizes[] = { 0, 1, 1000, UINT64_MAX };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t offset = 0, length = 0;
        if (range_parse(line, sizes[i], &offset, &length) == RANGE_PART)
            assert(length > 0 && offset < sizes[i] && length <= sizes[i] - offset);
    }
}

static void check_digest(const char *line)
{
    uint8_t digest[HASH_SIZE];
    char again[HASH_TEXT_SIZE];
    if (!hash_parse(line, digest))
        return;
    hash_text(digest, again);
    assert(strcmp(again, line) == 0);
}

static void check_base64(const char *line)
{
    uint8_t bytes[90];
    size_t n = base64_decode(line, strlen(line), bytes, sizeof bytes);
    char *again = n ? base64_encode(bytes, n) : NULL;
    assert(n <= sizeof bytes && (!n || (again && strlen(again) == strlen(line))));
    free(again);
}

static void check_proxies(const char *trusted, const char *forwarded)
{
    struct proxies p;
    struct err e = { 0 };
    char peer[PEER_SIZE] = "10.1.2.3";
    if (!proxies_parse(trusted, &p, &e)) {
        assert(e.code == ERR_CONFIG && e.text[0]);
        return;
    }
    assert(p.n <= PROXIES_MAX);
    proxies_client(&p, forwarded, peer);
    assert(memchr(peer, 0, sizeof peer) && peer[0]);
}

/* What a page begins behind is an id, character for character. */
static void check_page(const struct request *req)
{
    static const char *const prefixes[] = { "job", "mdl", "tok", "ses" };
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        struct page page;
        struct err e = { 0 };
        if (!row_page(req, prefixes[i], &page, &e)) {
            assert((e.code == ERR_REQUEST_INVALID || e.code == ERR_REQUEST_JSON) && e.text[0]);
            continue;
        }
        assert(1 <= page.limit && page.limit <= 200 && e.code == ERR_NONE);
        if (page.cursor)
            assert(strlen(page.cursor) == 30 && memcmp(page.cursor, prefixes[i], 3) == 0 && page.cursor[3] == '_'
                   && strspn(page.cursor + 4, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == 26);
    }
}

static void check_token(const char *line)
{
    bool digits = true;
    for (const char *s = line; *s; s++)
        digits &= s < line + 3 || (*s >= '0' && *s <= '9') || (*s >= 'A' && *s <= 'Z') || (*s >= 'a' && *s <= 'z');
    assert(secret_well_formed("rq_", line) == (strlen(line) == 46 && memcmp(line, "rq_", 3) == 0 && digits));
}

/* The secret stands in the field, behind its name. */
static void check_cookie(const struct request *req)
{
    static const char name[] = ACCESS_COOKIE "=";
    char secret[TOKEN_TEXT_SIZE], pair[sizeof name + TOKEN_TEXT_SIZE], csrf[HASH_HEX_SIZE];
    const char *field = req->header[HDR_COOKIE];
    memset(secret, 'x', sizeof secret);
    if (!access_cookie(req, secret)) {
        assert(!field || strncmp(field, name, sizeof name - 1) != 0);
        return;
    }
    assert(memchr(secret, 0, sizeof secret) && !strchr(secret, ';'));
    snprintf(pair, sizeof pair, "%s%s", name, secret);
    assert(strstr(field, pair));
    access_csrf(secret, csrf);
    assert(strspn(csrf, "0123456789abcdef") == HASH_HEX_SIZE - 1);
}

static void check_head(const char *target, char *rest)
{
    struct request req;
    request_open(&req, target);
    req.method = "GET";
    for (char *line; (line = strsep(&rest, "\n"));) {
        char *value = strchr(line, ':');
        if (value) {
            *value++ = 0;
            value += strspn(value, " ");        /* as the server gives it */
        }
        request_field(&req, line, value ? value : "", value ? strlen(value) : 0);
    }
    check_page(&req);
    check_cookie(&req);
    request_trace(&req);
    assert(strlen(req.trace) == 0 || strspn(req.trace, "0123456789abcdef") == 32);
    memset(req.header, 0, sizeof req.header);
    request_release(&req);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { LINES = 8 };
    char *text = strndup((const char *)data, size), *rest = text;
    const char *line[LINES];
    assert(text);
    for (int i = 0; i < LINES; i++) {
        char *next = strsep(&rest, "\n");
        line[i] = next ? next : "";
    }
    check_target(line[0]);
    check_range(line[1]);
    etag_listed(line[2], "\"sha256:00\"");
    check_digest(line[3]);
    check_base64(line[4]);
    check_proxies(line[5], line[6]);
    check_token(line[7]);
    check_head(line[0], rest);
    free(text);
    return 0;
}
