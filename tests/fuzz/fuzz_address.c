/*
 * fuzz_address.c - libFuzzer over where the daemon may connect to: lists of networks, URLs, and addresses, whose rule is written here a second
 * time as arithmetic.  Lines: networks, URL; then an address of 16 bytes.
 */
#include "server/outbound.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROOM = 8 };

static bool public4(uint32_t a)
{
    uint32_t top = a >> 24, two = a >> 16, three = a >> 8;
    return top != 0 && top != 10 && top != 127 && top < 224 && a >> 22 != (100u << 2 | 1) && two != 0xa9fe && a >> 20 != 0xac1 && two != 0xc0a8
        && a >> 17 != 0xc612 >> 1 && three != 0xc00000 && three != 0xc00002 && three != 0xc05863 && three != 0xc63364 && three != 0xcb0071;
}

static bool allowed6(const uint8_t bytes[16], const struct net *nets, int n)
{
    struct sockaddr_in6 a = { .sin6_family = AF_INET6 };
    memcpy(&a.sin6_addr, bytes, 16);
    return address_allowed((struct sockaddr *)&a, nets, n);
}

static void check_address(const uint8_t bytes[16])
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff }, nat64[12] = { 0, 0x64, 0xff, 0x9b };
    uint8_t inside[16];
    struct sockaddr_in a = { .sin_family = AF_INET };
    memcpy(&a.sin_addr, bytes + 12, 4);
    bool open = address_allowed((struct sockaddr *)&a, NULL, 0);
    assert(open == public4(ntohl(a.sin_addr.s_addr)));
    memcpy(inside + 12, bytes + 12, 4);
    memcpy(inside, mapped, 12);
    assert(allowed6(inside, NULL, 0) == open);
    memcpy(inside, nat64, 12);
    assert(allowed6(inside, NULL, 0) == open);
    if (allowed6(bytes, NULL, 0))
        assert(bytes[0] >> 5 == 1 || memcmp(bytes, mapped, 12) == 0 || memcmp(bytes, nat64, 12) == 0);
    struct net all = { .family = AF_INET6, .bits = 128 };
    memcpy(all.bytes, bytes, 16);
    if (memcmp(bytes, mapped, 12) != 0)
        assert(allowed6(bytes, &all, 1));
}

static void check_nets(const char *text)
{
    struct net nets[ROOM];
    struct err e = { 0 };
    int n = net_list(text, nets, ROOM, &e);
    assert(n <= ROOM && (n >= 0) == (e.code == ERR_NONE));
    for (int i = 0; i < n; i++) {
        assert((nets[i].family == AF_INET && nets[i].bits <= 32) || (nets[i].family == AF_INET6 && nets[i].bits <= 128));
        assert(nets[i].bits >= 0);
    }
}

static void check_url(const char *text)
{
    static struct outbound *o;
    struct err e = { 0 };
    char origin[64];
    if (!o)
        o = outbound_new("models.example,*.s3.example,other.example:8443", "", "", NULL);
    assert(o);
    if (!outbound_check(o, text, false, &e)) {
        assert(e.code == ERR_TARGET && e.text[0] && !outbound_check(o, text, true, NULL));
        return;
    }
    assert(strncasecmp(text, "https://", 8) == 0);
    if (outbound_origin(text, origin, sizeof origin))
        assert(origin[0] && strlen(origin) < sizeof origin);
    if (outbound_check(o, text, true, NULL))
        assert(strcasestr(text, "example"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size), *rest = text, *nets = strsep(&rest, "\n"), *url = strsep(&rest, "\n");
    if (size >= 16)
        check_address(data + size - 16);
    check_nets(nets);
    if (url)
        check_url(url);
    free(text);
    return 0;
}
