/*
 * proxy.h - proxies whose word we take: about the address a request came from, and about who logged in there.
 *
 * A peer is trusted by the address its connection comes from, never by what it sends.  Addresses of IPv4 are kept as IPv4-mapped ones, so
 * ::ffff:10.0.0.1 and 10.0.0.1 are the same peer.
 */
#ifndef API_PROXY_H
#define API_PROXY_H

#include "core/base/err.h"

#include <stdint.h>

enum { PROXIES_MAX = 32, PEER_SIZE = 64 };

struct proxies {
    int n;
    struct { uint8_t net[16]; int bits; } nets[PROXIES_MAX];
};

/* "127.0.0.1, 10.0.0.0/8, fd00::/8".  ERR_CONFIG names the part that is no address or network. */
bool proxies_parse(const char *text, struct proxies *ret, struct err *e);

bool proxies_trust(const struct proxies *p, const char *address);

/*
 * peer: the address of the connection; becomes the client's.  `forwarded` (X-Forwarded-For; NULL is fine) is read from its right end, where the
 * nearest proxy wrote, for as long as the address to the right is trusted.  What is no address ends the reading.
 */
void proxies_client(const struct proxies *p, const char *forwarded, char peer[PEER_SIZE]);

#endif
