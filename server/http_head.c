#include "server/http_head.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

struct head {
    struct request *req;
    const char *last;               /* the text before: the version, then one value after the other */
    int fields;
    size_t bytes;                   /* of their names and values */
};

static void refuse_line_end(struct request *req)
{
    err_set(&req->fault, ERR_REQUEST_FRAMING, "head", "lines must end with carriage return and line feed, hold neither of them nor NUL, and not be folded");
}

/* Whether `name` is what the line after `text` begins with.  It is elsewhere if the library has unfolded the field. */
static bool next_line(const char *text, const char *name)
{
    const char *end = text + strlen(text), *at = end;
    if (name < end + 2)
        return false;
    while (at < name && (*at == '\0' || *at == ' ' || *at == '\t'))      /* white space behind a value is cut off */
        at++;
    return at == name && end[1] == '\0';
}

static enum MHD_Result on_field(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_n, const char *value, size_t value_n)
{
    struct head *h = cls;
    (void)kind;
    if (++h->fields > HEAD_FIELDS_MAX)
        err_set(&h->req->fault, ERR_REQUEST_HEAD, "head", "at most %d header fields are taken", (int)HEAD_FIELDS_MAX);
    if (name_n + value_n > HEAD_FIELD_MAX)
        err_set(&h->req->fault, ERR_REQUEST_HEAD, "head", "a header field of at most %d bytes is taken", (int)HEAD_FIELD_MAX);
    if ((h->bytes += name_n + value_n) > HEAD_BYTES_MAX)
        err_set(&h->req->fault, ERR_REQUEST_HEAD, "head", "header fields of at most %d bytes in all are taken", (int)HEAD_BYTES_MAX);
    if (!next_line(h->last, name))
        refuse_line_end(h->req);
    h->last = value ? value : name;
    if (strlen(name) != name_n)
        name = "\n";                        /* a NUL inside: not a name */
    request_field(h->req, name, value ? value : "", value_n);
    return MHD_YES;
}

/* The empty line: CR LF too, or a body or a second request would begin in one of its places. */
static bool closed_by_crlf(const char *last)
{
    const char *end = last + strlen(last);
    return end[1] == '\0' && end[2] == '\0' && end[3] == '\0';
}

void http_address(const struct sockaddr *a, char *ret, size_t size)
{
    ret[0] = '\0';
    if (a && a->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)a)->sin_addr, ret, (socklen_t)size);
    if (a && a->sa_family == AF_INET6) {
        const struct in6_addr *six = &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(six))
            inet_ntop(AF_INET, six->s6_addr + 12, ret, (socklen_t)size);
        else
            inet_ntop(AF_INET6, six, ret, (socklen_t)size);
    }
}

void http_head(struct MHD_Connection *c, const char *version, struct request *req)
{
    struct head h = { .req = req, .last = version };
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    http_address(info ? info->client_addr : NULL, req->peer, sizeof req->peer);
    MHD_get_connection_values_n(c, MHD_HEADER_KIND, on_field, &h);
    if (!closed_by_crlf(h.last))
        refuse_line_end(req);
}
