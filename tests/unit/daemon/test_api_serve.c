/* Ranges, validators and entries of details.json: the parts of an answer that are arithmetic. */
#include "api/details.h"
#include "api/problem.h"
#include "api/serve.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void a_range_is_served_cut_ignored_or_outside(void **state)
{
    static const struct { const char *text; uint64_t size; enum range want; uint64_t offset, length; } cases[] = {
        { NULL, 10, RANGE_WHOLE, 0, 0 },
        { "bytes=0-3", 10, RANGE_PART, 0, 4 },
        { "bytes=9-", 10, RANGE_PART, 9, 1 },
        { "bytes=4-99", 10, RANGE_PART, 4, 6 },
        { "bytes=-3", 10, RANGE_PART, 7, 3 },
        { "bytes=-99", 10, RANGE_PART, 0, 10 },
        { "bytes=-18446744073709551616", 10, RANGE_PART, 0, 10 },
        { "bytes=0-18446744073709551616", 10, RANGE_PART, 0, 10 },
        { "Bytes=1-1", 10, RANGE_PART, 1, 1 },
        { "bytes=10-", 10, RANGE_OUTSIDE, 0, 0 },
        { "bytes=99999999999999999999999-", 10, RANGE_OUTSIDE, 0, 0 },
        { "bytes=-0", 10, RANGE_OUTSIDE, 0, 0 },
        { "bytes=0-", 0, RANGE_OUTSIDE, 0, 0 },
        { "bytes=-1", 0, RANGE_OUTSIDE, 0, 0 },
        { "bytes=5-2", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=0-0,2-3", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=-", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=a-b", 10, RANGE_WHOLE, 0, 0 },
        { "bytes= 0-1", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=+0-1", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=0-1 ", 10, RANGE_WHOLE, 0, 0 },
        { "items=0-1", 10, RANGE_WHOLE, 0, 0 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t offset = 0, length = 0;
        enum range got = range_parse(cases[i].text, cases[i].size, &offset, &length);
        if (got != cases[i].want || offset != cases[i].offset || length != cases[i].length)
            fail_msg("%s of %llu: %d, %llu+%llu", cases[i].text, (unsigned long long)cases[i].size, got, (unsigned long long)offset,
                     (unsigned long long)length);
    }
}

static void a_served_part_lies_in_the_file_whatever_is_asked(void **state)
{
    (void)state;
    for (uint64_t size = 1; size < 6; size++)
        for (int a = 0; a < 8; a++)
            for (int b = 0; b < 8; b++) {
                char text[32];
                uint64_t offset, length;
                snprintf(text, sizeof text, "bytes=%d-%d", a, b);
                if (range_parse(text, size, &offset, &length) != RANGE_PART)
                    continue;
                assert_true(length >= 1 && offset < size && length <= size - offset);
                assert_int_equal(offset, a);
            }
}

static void an_entity_tag_is_found_in_a_list(void **state)
{
    (void)state;
    assert_true(etag_listed("\"a\"", "\"a\""));
    assert_true(etag_listed("\"b\", W/\"a\" ", "\"a\""));
    assert_true(etag_listed("*", "\"a\""));
    assert_false(etag_listed(NULL, "\"a\""));
    assert_false(etag_listed("", "\"a\""));
    assert_false(etag_listed("\"ab\", a", "\"a\""));
}

static const char digest[] = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

static const char *field(const struct reply *reply, const char *name)
{
    for (int i = 0; i < reply->fields; i++)
        if (strcmp(reply->field[i].name, name) == 0)
            return reply->field[i].value;
    return NULL;
}

static int some_file(void)
{
    char name[] = "/tmp/test_api_serve.XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    unlink(name);
    return fd;
}

static void a_file_is_served_with_what_identifies_it(void **state)
{
    struct request req = { .method = "GET" };
    struct reply reply = REPLY_INIT;
    (void)state;
    assert_true(reply_file(&req, &reply, some_file(), 7, digest, "a b/\"../é.onnx", NULL));
    assert_int_equal(reply.status, 200);
    assert_int_equal(reply.length, 7);
    assert_string_equal(reply.type, "application/octet-stream");
    assert_string_equal(field(&reply, "Repr-Digest"), "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
    assert_string_equal(field(&reply, "Content-Disposition"), "attachment; filename=\"a_b__..___.onnx\"");
    reply_release(&reply);
}

static void a_validator_saves_the_transfer_or_protects_the_range(void **state)
{
    char etag[100], other[] = "\"other\"";
    struct request req = { .method = "GET" };
    struct reply reply = REPLY_INIT;
    (void)state;
    snprintf(etag, sizeof etag, "\"%s\"", digest);
    req.header[HDR_IF_NONE_MATCH] = etag;
    assert_true(reply_file(&req, &reply, some_file(), 7, digest, "x", NULL));
    assert_int_equal(reply.status, 304);
    assert_int_equal(reply.fd, -1);
    reply_release(&reply);

    req.header[HDR_IF_NONE_MATCH] = NULL;
    req.header[HDR_RANGE] = "bytes=2-3";
    req.header[HDR_IF_RANGE] = etag;
    assert_true(reply_file(&req, &reply, some_file(), 7, digest, "x", NULL));
    assert_int_equal(reply.status, 206);
    assert_string_equal(field(&reply, "Content-Range"), "bytes 2-3/7");
    reply_release(&reply);

    req.header[HDR_IF_RANGE] = other;      /* the file has changed since the first part: send it whole */
    assert_true(reply_file(&req, &reply, some_file(), 7, digest, "x", NULL));
    assert_int_equal(reply.status, 200);
    reply_release(&reply);
}

static void a_range_outside_is_a_problem_that_tells_the_size(void **state)
{
    struct request req = { .method = "GET", .header[HDR_RANGE] = "bytes=7-" };
    struct reply reply = REPLY_INIT;
    struct err e = { 0 };
    (void)state;
    assert_false(reply_file(&req, &reply, some_file(), 7, digest, "x", &e));
    assert_int_equal(e.code, ERR_REQUEST_RANGE);
    reply_problem(&req, &reply, &e);
    assert_int_equal(reply.status, 416);
    assert_int_equal(reply.fd, -1);
    assert_string_equal(field(&reply, "Content-Range"), "bytes */7");
    reply_release(&reply);
}

static void a_problem_names_a_pointer_and_hides_our_own_failures(void **state)
{
    struct err theirs = { 0 }, ours = { 0 };
    (void)state;
    err_set(&theirs, ERR_RECIPE_FIELD, "/recipe/weights/bits", "\"bits\" must be 2 to 8");
    json_t *doc = problem_json(&theirs, "/v1/jobs", "req_1");
    assert_int_equal(json_integer_value(json_object_get(doc, "status")), 422);
    assert_string_equal(json_string_value(json_object_get(doc, "code")), "recipe.field");
    assert_string_equal(json_string_value(json_object_get(doc, "pointer")), "/recipe/weights/bits");
    assert_string_equal(json_string_value(json_object_get(doc, "detail")), "\"bits\" must be 2 to 8");
    json_decref(doc);

    err_set(&ours, ERR_IO, "/var/lib/secret/blobs", "open /var/lib/secret: input/output error");
    doc = problem_json(&ours, "/v1/jobs", "req_1");
    char *text = json_text(doc, 0);
    assert_null(strstr(text, "secret"));
    assert_non_null(strstr(text, "req_1"));
    free(text);
    json_decref(doc);
}

static void a_text_cut_inside_a_character_is_still_a_problem(void **state)
{
    struct err e = { 0 };
    (void)state;
    err_set(&e, ERR_REQUEST_INVALID, "x\xc3", "caf\xc3");
    json_t *doc = problem_json(&e, "/\xff", "req_1");
    assert_non_null(doc);
    assert_string_equal(json_string_value(json_object_get(doc, "detail")), "caf");
    json_decref(doc);
}

static int64_t value_of(const char *text, int64_t index, struct err *e)
{
    json_t *entry = details_find(text, strlen(text), index, e);
    int64_t x = entry ? json_integer_value(json_object_get(entry, "x")) : -1;
    json_decref(entry);
    return x;
}

static void an_entry_of_details_is_found_by_its_index(void **state)
{
    static const char list[] = "[{\"index\":0,\"x\":10,\"h\":[[1],[2]]},{\"s\":\"}]\\\"\",\"index\":3,\"x\":13},{\"index\":2,\"x\":12}]";
    static const char wrapped[] = "{\"version\":1,\"layers\":[{\"index\":1,\"x\":11}],\"more\":[{\"index\":2,\"x\":99}]}";
    static const char *const broken[] = { "", "[", "{}", "[{\"index\":5", "[{\"index\":5}", "[1,2,\"[\"]", "[{]}]", "[\"" };
    struct err e = { 0 };
    (void)state;
    assert_int_equal(value_of(list, 0, &e), 10);
    assert_int_equal(value_of(list, 2, &e), 12);
    assert_int_equal(value_of(list, 3, &e), 13);
    assert_int_equal(value_of(wrapped, 1, &e), 11);
    assert_int_equal(value_of(wrapped, 2, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        assert_int_equal(value_of(broken[i], 1, NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_is_served_cut_ignored_or_outside),
        cmocka_unit_test(a_served_part_lies_in_the_file_whatever_is_asked),
        cmocka_unit_test(an_entity_tag_is_found_in_a_list),
        cmocka_unit_test(a_file_is_served_with_what_identifies_it),
        cmocka_unit_test(a_validator_saves_the_transfer_or_protects_the_range),
        cmocka_unit_test(a_range_outside_is_a_problem_that_tells_the_size),
        cmocka_unit_test(a_problem_names_a_pointer_and_hides_our_own_failures),
        cmocka_unit_test(a_text_cut_inside_a_character_is_still_a_problem),
        cmocka_unit_test(an_entry_of_details_is_found_by_its_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
