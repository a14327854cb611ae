/* test_config.c - options from their three sources, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/config.h"

#include <stdio.h>

#include <stdlib.h>
#include <string.h>

enum { MAX_ARGS = 8 };

/* Options are separated by single spaces in `text`. */
static bool load(struct config *c, const char *text, struct err *e)
{
    static char copy[512];
    char name[] = "repquantd", *argv[MAX_ARGS] = { name }, *rest = copy;
    int argc = 1;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *word; *copy && (word = strsep(&rest, " "));)
        argv[argc++] = word;
    return config_load(c, argc, argv, e);
}

static void the_defaults_are_safe(void **state)
{
    (void)state;
    struct config c;
    assert_true(load(&c, "", NULL));
    assert_string_equal(c.listen, "127.0.0.1");
    assert_int_equal(c.port, 8080);
    assert_true(c.auth);
    assert_int_equal(c.max_upload, INT64_C(8) << 30);
}

static void flags_win_over_the_environment_and_that_over_defaults(void **state)
{
    (void)state;
    struct config c;
    setenv("REPQUANT_PORT", "9000", 1);
    setenv("REPQUANT_JOB_TIMEOUT", "60", 1);
    assert_true(load(&c, "--workers 3 --memory=2G", NULL));
    assert_int_equal(c.port, 9000);
    assert_int_equal(c.job_seconds, 60);
    assert_int_equal(c.workers, 3);
    assert_int_equal(c.memory, INT64_C(2) << 30);
    assert_true(load(&c, "--port=0", NULL));
    assert_int_equal(c.port, 0);
    setenv("REPQUANT_PORT", "http", 1);
    assert_false(load(&c, "--port=0", NULL));           /* a wrong variable is told even if a flag hides it */
    unsetenv("REPQUANT_PORT");
    unsetenv("REPQUANT_JOB_TIMEOUT");
}

static void every_wrong_option_is_named(void **state)
{
    (void)state;
    static const struct { const char *args, *where; } rows[] = {
        { "--port=65536", "port" }, { "--port=-1", "port" }, { "--port=", "port" }, { "--port=80x", "port" },
        { "--port=99999999999999999999", "port" }, { "--port= 80", "port" }, { "--workers=0", "workers" },
        { "--max-upload=1KB", "max-upload" }, { "--max-upload=9999999999T", "max-upload" }, { "--auth=yes", "auth" },
        { "--nothing=1", "--nothing=1" }, { "--workers", "--workers" }, { "data", "data" }, { "--listen=localhost", "listen" },
        { "--listen=127.0.0.1.evil.example", "listen" }, { "--data=", "data" },
        { "--auth=off --listen=0.0.0.0", "auth" }, { "--auth=off --listen=::", "auth" }, { "--auth=off --listen=192.168.1.1", "auth" },
        { "--listen=0.0.0.0", "plain-http" }, { "--listen=::ffff:10.0.0.1", "plain-http" }, { "--tls-cert=c", "tls-key" }, { "--tls-key=k", "tls-cert" },
        { "--auth=off --plain-http=on --listen=0.0.0.0", "auth" }, { "--rate=1000001", "rate" }, { "--rate-burst=0", "rate-burst" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config c;
        struct err e = { 0 };
        if (load(&c, rows[i].args, &e))
            fail_msg("accepted %s", rows[i].args);
        if (e.code != ERR_CONFIG || strcmp(e.where, rows[i].where) != 0)
            fail_msg("%s: %s: %s", rows[i].args, e.where, e.text);
    }
}

static void without_tokens_only_loopback_is_served(void **state)
{
    (void)state;
    static const char *const fine[] = { "--auth=off", "--auth=off --listen=127.0.0.2", "--auth=off --listen=::1", "--listen=0.0.0.0 --plain-http=on",
                                       "--listen=0.0.0.0 --tls-cert=c --tls-key=k" };
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++) {
        struct config c;
        if (!load(&c, fine[i], NULL))
            fail_msg("refused %s", fine[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults_are_safe),
        cmocka_unit_test(flags_win_over_the_environment_and_that_over_defaults),
        cmocka_unit_test(every_wrong_option_is_named),
        cmocka_unit_test(without_tokens_only_loopback_is_served),
    };
    clearenv();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
