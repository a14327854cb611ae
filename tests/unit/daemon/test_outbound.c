/* test_outbound.c - where the daemon may connect to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/outbound.h"
#include "tests/unit/scarce_curl.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static bool allowed(const char *text, const struct net *nets, int n)
{
    struct sockaddr_in four = { .sin_family = AF_INET };
    struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
    if (inet_pton(AF_INET, text, &four.sin_addr) == 1)
        return address_allowed((struct sockaddr *)(void *)&four, nets, n);
    if (inet_pton(AF_INET6, text, &six.sin6_addr) != 1)
        fail_msg("%s is no address", text);
    return address_allowed((struct sockaddr *)(void *)&six, nets, n);
}

static void only_public_addresses_are_connected_to(void **state)
{
    static const char *const open[] = { "8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1",
        "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.1", "223.255.255.255", "198.17.255.255", "198.20.0.0", "2606:4700::1111",
        "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1", "2001:4860::8888" };
    static const char *const closed[] = { "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254",
        "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255",
        "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:7f00:1::1", "2002:a00:1::", "2001::1", "2001:db8::1",
        "fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1", "100::1", "3fff::1", "5f00::1" };
    (void)state;
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        if (!allowed(open[i], NULL, 0))
            fail_msg("%s is refused", open[i]);
    for (size_t i = 0; i < sizeof closed / sizeof *closed; i++)
        if (allowed(closed[i], NULL, 0))
            fail_msg("%s is taken", closed[i]);
    struct sockaddr other = { .sa_family = AF_UNIX };
    assert_false(address_allowed(&other, NULL, 0));
}

static void networks_that_are_listed_are_open_and_only_these(void **state)
{
    struct net nets[4];
    struct err e = { 0 };
    (void)state;
    assert_int_equal(net_list("10.1.0.0/16, 127.0.0.1,fd00:1::/32", nets, 4, &e), 3);
    static const char *const open[] = { "10.1.0.0", "10.1.255.255", "127.0.0.1", "fd00:1::5", "::ffff:10.1.2.3", "8.8.8.8" };
    static const char *const closed[] = { "10.2.0.0", "10.0.255.255", "127.0.0.2", "fd00:2::5", "::1", "64:ff9b::a01:203" };
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        if (!allowed(open[i], nets, 3))
            fail_msg("%s is refused", open[i]);
    for (size_t i = 0; i < sizeof closed / sizeof *closed; i++)
        if (allowed(closed[i], nets, 3))
            fail_msg("%s is taken", closed[i]);
    static const char *const bad[] = { "10.1.0.0/33", "10.1/16", "fd00::/129", "10.0.0.0/", "10.0.0.0/x", "10.0.0.0/-1", "host", "1.1.1.1,2.2.2.2,3.3.3.3,4.4.4.4,5.5.5.5" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e = (struct err){ 0 };
        if (net_list(bad[i], nets, 4, &e) >= 0 || e.code != ERR_CONFIG)
            fail_msg("%s is taken", bad[i]);
    }
    assert_int_equal(net_list("", nets, 4, &e), 0);
}

static void urls_are_refused_before_anything_is_asked(void **state)
{
    static const char *const open[] = { "https://models.example/a", "https://MODELS.example:443/a?X-Amz-Signature=1", "https://models.example./a",
        "https://bucket.s3.example/key", "https://a.b.s3.example/", "https://other.example:8443/" };
    static const char *const closed[] = { "http://models.example/a", "https://models.example:444/a", "https://models.example.evil.example/", "https://s3.example/",
        "https://xs3.example/", "https://other.example/", "https://u:p@models.example/", "https://u@models.example/", "https://models.example@evil.example/",
        "ftp://models.example/", "https:/models.example/a", "https:///models.example/a", "https:models.example/a", "file:///etc/passwd", "gopher://models.example/", "https://", "models.example/a", "", "https://127.1/", "https://2130706433/",
        "https://0x7f.1/", "https://[::1]/", "https://[fe80::1%25lo]/", "https://localhost/", "https://evil.example#models.example", "https://evil.example/models.example" };
    struct err e = { 0 };
    (void)state;
    struct outbound *o = outbound_new("models.example, *.s3.example,other.example:8443", "", "", &e);
    assert_non_null(o);
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        if (!outbound_check(o, open[i], true, &e))
            fail_msg("%s: %s", open[i], e.text);
    for (size_t i = 0; i < sizeof closed / sizeof *closed; i++) {
        e = (struct err){ 0 };
        if (outbound_check(o, closed[i], true, &e) || e.code != ERR_TARGET)
            fail_msg("%s is taken", closed[i]);
    }
    e = (struct err){ 0 };
    assert_true(outbound_check(o, "https://hooks.example/x", false, &e));       /* without the list the address decides */
    assert_false(outbound_check(o, "http://hooks.example/x", false, &e));
    outbound_free(o);
    o = outbound_new("", "", "", &e);
    e = (struct err){ 0 };
    assert_false(outbound_check(o, "https://models.example/a", true, &e));
    assert_non_null(strstr(e.text, "--import-hosts"));
    outbound_free(o);
    e = (struct err){ 0 };
    assert_null(outbound_new("", "nonsense", "", &e));
    assert_int_equal(e.code, ERR_CONFIG);
}

/* A webhook without its signature, or with the system's certificates instead of the operator's, must not go out. */
static void a_request_that_lacks_something_is_not_sent(void **state)
{
    static const char *const fields[] = { "Webhook-Id: 1", "Webhook-Signature: 2", NULL };
    const struct outbound_request r = { .method = "POST", .url = "https://8.8.8.8/hook", .fields = fields, .body = "{}", .body_n = 2, .seconds = 5 };
    struct outbound_answer answer;
    struct outbound *o = outbound_new("", "", "/dev/null", NULL);
    (void)state;
    assert_non_null(o);
    for (scarce.refuse = 1;; scarce.refuse++) {
        struct err e = { 0 };
        scarce.told = scarce.performed = 0;
        assert_false(outbound_run(o, &r, &answer, &e));
        if (scarce.told < scarce.refuse)
            break;
        if (scarce.performed || e.code != ERR_MEMORY)
            fail_msg("without the %d. of what it is told: %d sent, %s", scarce.refuse, scarce.performed, err_slug(e.code));
    }
    assert_int_equal(scarce.performed, 1);
    assert_in_range(scarce.refuse, 20, 60);
    outbound_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_public_addresses_are_connected_to),
        cmocka_unit_test(networks_that_are_listed_are_open_and_only_these),
        cmocka_unit_test(urls_are_refused_before_anything_is_asked),
        cmocka_unit_test(a_request_that_lacks_something_is_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
