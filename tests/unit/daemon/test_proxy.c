/* Whose word about addresses is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "api/proxy.h"

#include <stdio.h>
#include <string.h>

static void networks_hold_what_they_say(void **state)
{
    static const struct { const char *nets, *address; bool in; } rows[] = {
        { "", "127.0.0.1", false },
        { "127.0.0.1", "127.0.0.1", true }, { "127.0.0.1", "127.0.0.2", false }, { "127.0.0.1", "::ffff:127.0.0.1", true },
        { "::ffff:10.0.0.0/104", "10.255.1.1", true },
        { "10.0.0.0/8", "10.255.0.1", true }, { "10.0.0.0/8", "11.0.0.0", false }, { "10.0.0.0/9", "10.128.0.0", false },
        { "0.0.0.0/0", "203.0.113.9", true }, { "0.0.0.0/0", "2001:db8::1", false }, { "::/0", "203.0.113.9", true },
        { "fd00::/8, 192.0.2.1/32", "fd12::1", true }, { "fd00::/8,192.0.2.1/32", "192.0.2.1", true }, { "fd00::/8", "fe00::1", false },
        { "::1", "::1", true }, { "::1", "0:0:0:0:0:0:0:1", true }, { "10.0.0.0/8", "", false }, { "10.0.0.0/8", "10.0.0.1.example", false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct proxies p;
        if (!proxies_parse(rows[i].nets, &p, NULL) || proxies_trust(&p, rows[i].address) != rows[i].in)
            fail_msg("%s in %s", rows[i].address, rows[i].nets);
    }
    assert_false(proxies_trust(NULL, "127.0.0.1"));
}

static void what_is_no_network_is_named(void **state)
{
    static const char *const bad[] = { "localhost", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8x", "10.0.0.0/+8", "127.0.0.1 nonsense" };
    char many[PROXIES_MAX * 12 + 12] = "";
    struct proxies p;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = { 0 };
        if (proxies_parse(bad[i], &p, &e) || e.code != ERR_CONFIG || strcmp(e.where, "trusted-proxies") != 0)
            fail_msg("%s is taken", bad[i]);
    }
    for (int i = 0; i <= PROXIES_MAX; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), "10.0.0.%d,", i);
    assert_false(proxies_parse(many, &p, NULL));
}

static void forwarded_addresses_are_read_from_the_nearest_proxy_on(void **state)
{
    static const struct { const char *peer, *forwarded, *client; } rows[] = {
        { "10.0.0.1", NULL, "10.0.0.1" },
        { "10.0.0.1", "", "10.0.0.1" },
        { "10.0.0.1", "203.0.113.9", "203.0.113.9" },
        { "10.0.0.1", "1.1.1.1,203.0.113.9", "203.0.113.9" },                       /* what the client claimed does not count */
        { "10.0.0.1", "203.0.113.9 ,\t10.0.0.2", "203.0.113.9" },
        { "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3" },
        { "10.0.0.1", "203.0.113.9, unknown, 10.0.0.2", "10.0.0.2" },
        { "10.0.0.1", ",,", "10.0.0.1" },
        { "10.0.0.1", "203.0.113.9:1234", "10.0.0.1" },
        { "203.0.113.7", "1.1.1.1", "203.0.113.7" },                                /* from a stranger nothing counts */
    };
    char peer[PEER_SIZE], longer[400];
    struct proxies p;
    (void)state;
    assert_true(proxies_parse("10.0.0.0/8", &p, NULL));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(peer, sizeof peer, "%s", rows[i].peer);
        proxies_client(&p, rows[i].forwarded, peer);
        if (strcmp(peer, rows[i].client) != 0)
            fail_msg("%s: %s", rows[i].forwarded, peer);
    }
    memset(longer, '1', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    snprintf(peer, sizeof peer, "10.0.0.1");
    proxies_client(&p, longer, peer);
    assert_string_equal(peer, "10.0.0.1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_hold_what_they_say),
        cmocka_unit_test(what_is_no_network_is_named),
        cmocka_unit_test(forwarded_addresses_are_read_from_the_nearest_proxy_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
