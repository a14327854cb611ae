/*
 * test_json_memory.c - threads read and write JSON while each allocation of each is refused once: all or nothing, and nothing of one thread is
 * another's.  A sanitizer sees what is lost, used twice or touched by two.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

static _Thread_local long allowed = -1;         /* allocations until one is refused; negative: none is */

static void *stingy_malloc(size_t n)
{
    if (allowed == 0) {
        allowed = -1;
        return NULL;
    }
    allowed -= allowed > 0;
    return malloc(n);
}

#define malloc stingy_malloc
#include "core/base/json.c"
#undef malloc

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { THREADS = 4, ROUNDS = 20 };

static const char TEXT[] = "{\"name\": \"Gr\\u00fc\\u00dfe, a text that is longer than what a string begins with\", \"numbers\": [1, -2.5e3, true, null],"
                           " \"nested\": {\"a\": {\"b\": [[], {}, \"\"]}}, \"more\": [{\"k\": 1}, {\"k\": 2}, {\"k\": 3}]}";

struct turn { int wrong, refusals; json_t *want; };     /* one of each thread */

/* With the n-th allocation refused; whether it came to that. */
static bool read_with(struct turn *t, long n)
{
    struct err e = { 0 };
    allowed = n;
    json_t *value = json_parse(TEXT, sizeof TEXT - 1, 8, ERR_REQUEST_JSON, &e);
    bool met = allowed == -1;
    allowed = -1;
    t->wrong += met ? value || e.code != ERR_MEMORY : e.code || !json_equal(value, t->want);
    json_decref(value);
    return met;
}

static bool write_with(struct turn *t, const json_t *value, const char *want, long n)
{
    allowed = n;
    char *text = json_text(value, JSON_COMPACT);
    bool met = allowed == -1;
    allowed = -1;
    t->wrong += met ? text != NULL : !text || strcmp(text, want) != 0;
    free(text);
    return met;
}

static void *read_and_write(void *arg)
{
    struct turn *t = arg;
    json_begin();
    json_t *value = json_read(TEXT, 0);
    char *text = json_text(value, JSON_COMPACT);
    t->wrong += json_short() || !text;
    for (int round = 0; round < ROUNDS; round++) {
        long n = 0;
        while (read_with(t, n))
            n++;
        t->refusals += (int)n;
        for (n = 0; write_with(t, value, text, n);)
            n++;
        t->refusals += (int)n;
    }
    t->wrong += !json_short();
    json_begin();
    t->wrong += json_short();
    free(text);
    json_decref(value);
    return NULL;
}

static void threads_that_are_refused_memory_leave_each_other_alone(void **state)
{
    struct turn turns[THREADS] = { 0 };
    pthread_t threads[THREADS];
    (void)state;
    for (int i = 0; i < THREADS; i++) {
        turns[i].want = json_read(TEXT, 0);
        assert_int_equal(pthread_create(&threads[i], NULL, read_and_write, &turns[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(turns[i].wrong, 0);
        assert_int_equal(turns[i].refusals, turns[0].refusals);
        assert_true(turns[i].refusals > 30 * ROUNDS);
        json_decref(turns[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(threads_that_are_refused_memory_leave_each_other_alone) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
