#include "api/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 16 bytes; *ret_bits is how many of them an address has: 32 or 128. */
static bool parse_address(const char *text, uint8_t ret[16], int *ret_bits)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    *ret_bits = 128;
    if (inet_pton(AF_INET6, text, ret) == 1)
        return true;
    memcpy(ret, mapped, sizeof mapped);
    *ret_bits = 32;
    return inet_pton(AF_INET, text, ret + 12) == 1;
}

static bool parse_net(const char *text, size_t n, struct proxies *p)
{
    char copy[80];
    int bits;
    if (p->n == PROXIES_MAX || n >= sizeof copy)
        return false;
    memcpy(copy, text, n);
    copy[n] = '\0';
    char *slash = strchr(copy, '/');
    if (slash)
        *slash++ = '\0';
    if (!parse_address(copy, p->nets[p->n].net, &bits))
        return false;
    long prefix = bits;
    if (slash) {
        char *end;
        errno = 0;
        prefix = strtol(slash, &end, 10);
        if (*slash < '0' || *slash > '9' || *end || errno || prefix > bits)
            return false;
    }
    p->nets[p->n++].bits = 128 - bits + (int)prefix;
    return true;
}

bool proxies_parse(const char *text, struct proxies *ret, struct err *e)
{
    *ret = (struct proxies){ 0 };
    for (const char *s = text + strspn(text, ", "); *s; s += strspn(s, ", ")) {
        size_t n = strcspn(s, ", ");
        if (!parse_net(s, n, ret))
            return err_set(e, ERR_CONFIG, "trusted-proxies", "\"%.*s\" is not an address or a network such as 10.0.0.0/8, or there are more than %d",
                           n < 60 ? (int)n : 60, s, (int)PROXIES_MAX);
        s += n;
    }
    return true;
}

static bool in_net(const uint8_t address[16], const uint8_t net[16], int bits)
{
    int bytes = bits / 8, rest = bits % 8;
    return memcmp(address, net, (size_t)bytes) == 0 && (!rest || (address[bytes] ^ net[bytes]) >> (8 - rest) == 0);
}

bool proxies_trust(const struct proxies *p, const char *address)
{
    uint8_t bytes[16];
    int bits;
    if (!p || !parse_address(address, bytes, &bits))
        return false;
    for (int i = 0; i < p->n; i++)
        if (in_net(bytes, p->nets[i].net, p->nets[i].bits))
            return true;
    return false;
}

void proxies_client(const struct proxies *p, const char *forwarded, char peer[PEER_SIZE])
{
    const char *end = forwarded ? forwarded + strlen(forwarded) : NULL;
    uint8_t bytes[16];
    int bits;
    while (end && end > forwarded && proxies_trust(p, peer)) {
        const char *start = end;
        while (start > forwarded && start[-1] != ',')
            start--;
        char one[PEER_SIZE];
        const char *first = start + strspn(start, " \t");
        size_t n = first < end ? (size_t)(end - first) : 0;
        while (n && (first[n - 1] == ' ' || first[n - 1] == '\t'))
            n--;
        if (n >= sizeof one)
            return;
        memcpy(one, first, n);
        one[n] = '\0';
        if (!parse_address(one, bytes, &bits))
            return;
        memcpy(peer, one, n + 1);
        end = start > forwarded ? start - 1 : forwarded;
    }
}
