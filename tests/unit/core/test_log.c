/* test_log.c - a line of the log is one line of JSON or text, whatever a client has sent. */
#include "core/base/json.h"
#include "core/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { MOST = 8192, LONG = 2600 };

/* What goes to standard error meanwhile. */
struct caught { int pipe[2], old; char text[2 * MOST]; };

static void catch(struct caught *c)
{
    fflush(stderr);
    assert_int_equal(pipe(c->pipe), 0);
    c->old = dup(STDERR_FILENO);
    dup2(c->pipe[1], STDERR_FILENO);
    close(c->pipe[1]);
}

static const char *caught(struct caught *c)
{
    dup2(c->old, STDERR_FILENO);
    close(c->old);
    ssize_t n = read(c->pipe[0], c->text, sizeof c->text - 1);
    close(c->pipe[0]);
    assert_true(n > 0);
    c->text[n] = '\0';
    assert_ptr_equal(strchr(c->text, '\n'), c->text + n - 1);      /* one line, and it ends */
    assert_true(n <= MOST);
    return c->text;
}

static json_t *logged(const struct log_field *fields, int n)
{
    struct caught c;
    struct err e = { 0 };
    catch(&c);
    log_fields(LOG_ERROR, "test.event", fields, n);
    const char *text = caught(&c);
    json_t *line = json_parse(text, strlen(text), 3, ERR_IO, &e);
    if (!line)
        fail_msg("%s: %s", e.text, text);
    assert_string_equal(json_string_value(json_object_get(line, "event")), "test.event");
    return line;
}

static void what_a_client_sends_is_one_value(void **state)
{
    (void)state;
    static const char *const hostile[] = { "a\nb", "\",\"level\":\"forged", "\\", "\x1b[2J", "\x7f", "tab\there", "{}", "%s%n", "a b" };
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        json_t *line = logged(&(struct log_field){ .name = "x", .text = hostile[i] }, 1);
        assert_string_equal(json_string_value(json_object_get(line, "x")), hostile[i]);
        assert_string_equal(json_string_value(json_object_get(line, "level")), "error");
        json_decref(line);
    }
    json_t *line = logged(&(struct log_field){ .name = "x", .text = "\xc3\xa9" }, 1);       /* bytes that are not ASCII are told as such */
    assert_string_equal(json_string_value(json_object_get(line, "x")), "\xc3\x83\xc2\xa9");
    json_decref(line);
}

static void numbers_keep_their_value_and_empty_fields_are_left_out(void **state)
{
    (void)state;
    static const double numbers[] = { 0, 200, -3, 0.1, 12.3, 999999999, 1e9, 1e15, -2.5e-9 };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const struct log_field fields[] = { { .name = "n", .number = numbers[i] }, { .name = "empty", .text = "" } };
        json_t *line = logged(fields, 2);
        assert_true(json_number_value(json_object_get(line, "n")) == numbers[i]);
        assert_null(json_object_get(line, "empty"));
        json_decref(line);
    }
}

static void what_is_too_long_is_cut_and_what_does_not_fit_left_out(void **state)
{
    (void)state;
    char wide[2 * LONG + 1];
    memset(wide, 'w', sizeof wide - 1);
    wide[sizeof wide - 1] = '\0';
    const struct log_field fields[] = { { .name = "a", .text = wide }, { .name = "b", .text = wide }, { .name = "c", .text = wide },
                                        { .name = "d", .text = wide }, { .name = "last", .text = "fits" } };
    json_t *line = logged(fields, 5);
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(json_string_value(json_object_get(line, fields[i].name)));
        assert_true(n > LONG - 16 && n < LONG);
    }
    assert_null(json_object_get(line, "d"));
    assert_string_equal(json_string_value(json_object_get(line, "last")), "fits");
    json_decref(line);
    memset(wide, '\n', sizeof wide - 1);        /* escapes are not cut in two */
    line = logged(fields, 1);
    size_t n = strlen(json_string_value(json_object_get(line, "a")));
    assert_int_equal(strspn(json_string_value(json_object_get(line, "a")), "\n"), n);
    json_decref(line);
}

static void text_for_people_quotes_what_is_not_plain(void **state)
{
    (void)state;
    struct caught c;
    const struct log_field fields[] = { { .name = "path", .text = "/v1/jobs" }, { .name = "said", .text = "a \"b\"\n" }, { .name = "status", .number = 404 } };
    log_set_format(LOG_TEXT);
    catch(&c);
    log_fields(LOG_ERROR, "test.event", fields, 3);
    log_set_format(LOG_JSON);
    assert_non_null(strstr(caught(&c), " test.event path=/v1/jobs said=\"a \\\"b\\\"\\u000a\" status=404\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_client_sends_is_one_value),
        cmocka_unit_test(numbers_keep_their_value_and_empty_fields_are_left_out),
        cmocka_unit_test(what_is_too_long_is_cut_and_what_does_not_fit_left_out),
        cmocka_unit_test(text_for_people_quotes_what_is_not_plain),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
