/* test_child_event.c - what a child may write on its event pipe, and what it may not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/child_event.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool parse(const char *line, struct child_event *ret) { return child_event_parse(line, strlen(line), ret, NULL); }

static void events_of_the_contract_are_read(void **state)
{
    (void)state;
    struct child_event ev;
    assert_true(parse("{\"event\":\"stage\",\"stage\":\"calibrating\"}", &ev));
    assert_int_equal(ev.kind, EVENT_STAGE);
    assert_string_equal(ev.name, "calibrating");
    child_event_release(&ev);
    assert_true(parse("{\"event\":\"progress\",\"done\":3,\"total\":7,\"samples\":32,\"new\":[1]}", &ev));
    assert_true(ev.kind == EVENT_PROGRESS && ev.done == 3 && ev.total == 7 && ev.samples == 32);
    child_event_release(&ev);
    assert_true(parse("{\"event\":\"resumed\",\"sites\":5,\"weights\":2}", &ev));
    assert_true(ev.kind == EVENT_RESUMED && ev.sites == 5 && ev.weights == 2);
    child_event_release(&ev);
    assert_true(parse("{\"event\":\"metric\",\"name\":\"top1\",\"float\":0.5,\"quantized\":null}", &ev));
    assert_true(ev.kind == EVENT_METRIC && ev.x_float == 0.5 && isnan(ev.x_quantized));
    child_event_release(&ev);
    assert_true(parse("{\"event\":\"problem\",\"code\":\"model.invalid\",\"detail\":\"d\",\"where\":\"w\",\"retryable\":true}", &ev));
    assert_true(ev.kind == EVENT_PROBLEM && ev.retryable);
    assert_string_equal(ev.code, "model.invalid");
    child_event_release(&ev);
}

static void a_layers_row_is_what_the_child_said_without_the_envelope(void **state)
{
    (void)state;
    struct child_event ev;
    assert_true(parse("{\"event\":\"layer\",\"index\":4,\"name\":\"fc\",\"cosine\":0.5}", &ev));
    assert_int_equal(ev.index, 4);
    char *row = child_event_row(&ev);
    assert_string_equal(row, "{\"name\":\"fc\",\"cosine\":0.5}");
    free(row);
    child_event_release(&ev);
}

static void an_event_of_a_newer_quantizer_is_passed_over(void **state)
{
    (void)state;
    struct child_event ev;
    assert_true(parse("{\"event\":\"telemetry\",\"done\":\"x\"}", &ev));
    assert_int_equal(ev.kind, EVENT_OTHER);
    child_event_release(&ev);
}

static void anything_else_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "{", "[]", "null", "{}", "stage calibrating", "{\"event\":3}", "{\"event\":\"stage\"}", "{\"event\":\"stage\",\"stage\":1}",
        "{\"event\":\"progress\",\"done\":-1,\"total\":1}", "{\"event\":\"progress\",\"done\":1.5,\"total\":1}",
        "{\"event\":\"progress\",\"done\":1}", "{\"event\":\"progress\",\"done\":9007199254740993,\"total\":1}",
        "{\"event\":\"layer\",\"index\":-1}", "{\"event\":\"layer\",\"index\":99999999}", "{\"event\":\"layer\"}",
        "{\"event\":\"metric\",\"name\":\"x\",\"float\":\"1\"}", "{\"event\":\"metric\",\"float\":1}",
        "{\"event\":\"done\"}", "{\"event\":\"done\",\"files\":\"x\"}", "{\"event\":\"done\",\"files\":[1]}",
        "{\"event\":\"problem\",\"code\":\"x\",\"retryable\":1}", "{\"event\":\"warning\"}",
        "{\"event\":\"stage\",\"stage\":\"a\",\"stage\":\"b\"}", "{\"event\":\"stage\",\"stage\":\"a\\u0000b\"}",
        "{\"event\":\"stage\",\"stage\":\"a\"} x", "{\"event\":\"x\",\"a\":[[[[[[[[[1]]]]]]]]]}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct child_event ev;
        if (parse(bad[i], &ev))
            fail_msg("accepted %s", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_of_the_contract_are_read),
        cmocka_unit_test(a_layers_row_is_what_the_child_said_without_the_envelope),
        cmocka_unit_test(an_event_of_a_newer_quantizer_is_passed_over),
        cmocka_unit_test(anything_else_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
