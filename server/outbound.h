/*
 * outbound.h - every connection that the daemon opens, for imports and webhooks.  One rule says where it may go.
 *
 *   - https only, certificate and name verified, no credentials in the URL, no proxy, a fresh connection each time;
 *   - the *address about to be connected* decides, not the name: a name can point anywhere, and elsewhere the next time.
 *     Loopback, private, link-local, shared, documentation, multicast and reserved networks, and addresses that embed
 *     one (mapped, NAT64, 6to4), are refused unless the operator lists them (--outbound-private); behind the first
 *     refused address no other one of the name is tried;
 *   - redirects are not followed; a request to listed hosts follows up to three of them, each checked like the first;
 *   - time, size and speed are bounded.
 */
#ifndef SERVER_OUTBOUND_H
#define SERVER_OUTBOUND_H

#include "core/base/err.h"

#include <stdatomic.h>
#include <stdint.h>
#include <sys/socket.h>

struct outbound;

/* hosts: "models.example,*.s3.example,other.example:8443"; nets: "10.1.0.0/16,fd00::/8"; ca: a file of certificates, "": the system's.
 * The strings are borrowed.  Before threads exist.  ERR_CONFIG. */
struct outbound *outbound_new(const char *hosts, const char *nets, const char *ca, struct err *e);
void outbound_free(struct outbound *o);             /* NULL is fine; no request may be under way */

struct outbound_request {
    const char *method;                             /* "GET", whose answer must not be in a content coding, or "POST" */
    const char *url;
    bool listed;                                    /* only to hosts the operator lists */
    const char *const *fields;                      /* "Name: value", NULL-terminated, or NULL */
    const void *body;                               /* of a POST */
    size_t body_n;
    int64_t seconds;                                /* for all of it */
    uint64_t limit;                                 /* bytes of the answer's body */
    const atomic_bool *stop;                        /* ends it early; may be NULL */
    /* Once, before the first byte and also if there is none; length -1: not told.  False with *e ends it. */
    bool (*head)(void *arg, int status, int64_t length, struct err *e);
    bool (*take)(void *arg, const void *p, size_t n, struct err *e);
    void *arg;
};

struct outbound_answer {
    int status;                                     /* 0: none came */
    int64_t retry_after;                            /* seconds, as the answer asks; 0: it does not */
};

/*
 * True: an answer came and was taken whole, whatever its status.  ERR_TARGET: it may not go there; nothing was sent.
 * ERR_TARGET_FAILED: no answer, not over TLS, too slow, too large, cut off; ERR_DRAINING: stopped; ERR_MEMORY; else what head or take said.
 */
bool outbound_run(struct outbound *o, const struct outbound_request *r, struct outbound_answer *ret, struct err *e);

/* Whether a URL may be asked for at all, as far as that can be told without asking.  ERR_TARGET. */
bool outbound_check(const struct outbound *o, const char *url, bool listed, struct err *e);

/* "host:port" of a URL that outbound_check() allows; cut where it does not fit. */
bool outbound_origin(const char *url, char *ret, size_t size);

/* ---- the rule (outbound_address.c) ---- */

struct net { int family, bits; uint8_t bytes[16]; };
/* Comma-separated networks; at most `room`.  Returns how many, -1 with *e. */
int net_list(const char *text, struct net *ret, int room, struct err *e);
/* Public, or in one of the networks. */
bool address_allowed(const struct sockaddr *a, const struct net *nets, int n);

#endif
