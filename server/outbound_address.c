/* outbound_address.c - which addresses are public. */
#include "server/outbound.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct range { const char *net; int bits; };

static const struct range closed4[] = {
    { "0.0.0.0", 8 }, { "10.0.0.0", 8 }, { "100.64.0.0", 10 }, { "127.0.0.0", 8 }, { "169.254.0.0", 16 }, { "172.16.0.0", 12 },
    { "192.0.0.0", 24 }, { "192.0.2.0", 24 }, { "192.88.99.0", 24 }, { "192.168.0.0", 16 }, { "198.18.0.0", 15 },
    { "198.51.100.0", 24 }, { "203.0.113.0", 24 }, { "224.0.0.0", 4 }, { "240.0.0.0", 4 },
};
/* Of IPv6 only 2000::/3 is public, less these. */
static const struct range closed6[] = { { "2001::", 23 }, { "2001:db8::", 32 }, { "3fff::", 20 } };
/* Where an IPv4 address is inside, from byte `at` on: the same rule holds for it. */
static const struct { struct range range; int at; } embedding[] = {
    { { "::ffff:0:0", 96 }, 12 }, { { "64:ff9b::", 96 }, 12 }, { { "2002::", 16 }, 2 },
};

static bool same_bits(const uint8_t *a, const uint8_t *b, int bits)
{
    int whole = bits / 8, rest = bits % 8;
    return memcmp(a, b, (size_t)whole) == 0 && (rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0);
}

static bool in_range(int family, const uint8_t *bytes, const struct range *r)
{
    uint8_t net[16];
    return inet_pton(family, r->net, net) == 1 && same_bits(bytes, net, r->bits);
}

static bool public4(const uint8_t *bytes)
{
    for (size_t i = 0; i < sizeof closed4 / sizeof *closed4; i++)
        if (in_range(AF_INET, bytes, &closed4[i]))
            return false;
    return true;
}

static bool public6(const uint8_t *bytes)
{
    static const struct range unicast = { "2000::", 3 };
    for (size_t i = 0; i < sizeof embedding / sizeof *embedding; i++)
        if (in_range(AF_INET6, bytes, &embedding[i].range))
            return public4(bytes + embedding[i].at);
    for (size_t i = 0; i < sizeof closed6 / sizeof *closed6; i++)
        if (in_range(AF_INET6, bytes, &closed6[i]))
            return false;
    return in_range(AF_INET6, bytes, &unicast);
}

static bool listed(int family, const uint8_t *bytes, const struct net *nets, int n)
{
    for (int i = 0; i < n; i++)
        if (nets[i].family == family && same_bits(bytes, nets[i].bytes, nets[i].bits))
            return true;
    return false;
}

bool address_allowed(const struct sockaddr *a, const struct net *nets, int n)
{
    uint8_t bytes[16];
    if (a->sa_family == AF_INET) {
        memcpy(bytes, &((const struct sockaddr_in *)(const void *)a)->sin_addr, 4);
        return listed(AF_INET, bytes, nets, n) || public4(bytes);
    }
    if (a->sa_family != AF_INET6)
        return false;
    memcpy(bytes, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, 16);
    static const struct range mapped = { "::ffff:0:0", 96 };
    if (in_range(AF_INET6, bytes, &mapped))
        return listed(AF_INET, bytes + 12, nets, n) || public4(bytes + 12);
    return listed(AF_INET6, bytes, nets, n) || public6(bytes);
}

static bool parse_bits(const char *text, int most, int *ret)
{
    char *end;
    long bits = strtol(text, &end, 10);
    *ret = (int)bits;
    return end != text && !*end && bits >= 0 && bits <= most;
}

static bool parse_net(const char *text, struct net *ret)
{
    char address[64];
    size_t n = strcspn(text, "/");
    if (n >= sizeof address)
        return false;
    memcpy(address, text, n);
    address[n] = '\0';
    ret->family = strchr(address, ':') ? AF_INET6 : AF_INET;
    ret->bits = ret->family == AF_INET6 ? 128 : 32;
    return inet_pton(ret->family, address, ret->bytes) == 1 && (!text[n] || parse_bits(text + n + 1, ret->bits, &ret->bits));
}

int net_list(const char *text, struct net *ret, int room, struct err *e)
{
    int n = 0;
    for (const char *s = text; *s; s += strspn(s, ", ")) {
        char one[80];
        size_t length = strcspn(s, ", ");
        snprintf(one, sizeof one, "%.*s", (int)(length < sizeof one ? length : sizeof one - 1), s);
        if (n == room || !parse_net(one, &ret[n])) {
            err_set(e, ERR_CONFIG, "outbound-private", "\"%s\" is no network such as 10.1.0.0/16 or fd00::/8, or there are more than %d", one, room);
            return -1;
        }
        n++;
        s += length;
    }
    return n;
}
