/* test_webhooks.c - the outbox, the schedule and the signature. */
#include "tests/unit/daemon/storage_fixture.h"

#include "core/base/clock.h"
#include "server/sender.h"
#include "storage/team.h"

#include <pthread.h>

static const int64_t SECOND = 1000000, LEASE = 30LL * 1000000;

static void make_hook(struct fixture *f, const char *origin, const char *events, char ret[ID_SIZE])
{
    struct webhook_request r = { .url = "https://hooks.example/x", .origin = origin, .events = events };
    struct webhook h;
    char secret[WEBHOOK_SECRET_SIZE];
    struct err e = { 0 };
    if (!webhook_create(f->store, TEAM_LOCAL, &r, &h, secret, &e))
        fail_msg("%s: %s", e.where, e.text);
    assert_true(strncmp(secret, "whsec_", 6) == 0);
    memcpy(ret, h.id, ID_SIZE);
}

static bool next(struct fixture *f, const char *busy, const char *only, struct letter *ret)
{
    int64_t due;
    struct err e = { 0 };
    bool got = outbox_next(f->store, busy, only, ret, &due, &e);
    assert_int_equal(e.code, ERR_NONE);
    return got;
}

static bool end(struct fixture *f, struct letter *l, enum delivery_state state, bool gone)
{
    struct letter_result r = { .state = state, .at = clock_now_us(), .us = 1000, .gone = gone, .status = gone ? 410 : 200 };
    bool disabled;
    if (state == DELIVERY_PENDING)
        r.due_at = r.at + 3600 * SECOND;
    assert_true(outbox_result(f->store, l, &r, &disabled, NULL));
    letter_release(l);
    return disabled;
}

/* ---- the outbox ---- */

static void an_event_is_in_the_outbox_of_who_wants_it_and_of_nobody_else(void **state)
{
    struct fixture *f = *state;
    char all[ID_SIZE], ends[ID_SIZE], job[ID_SIZE];
    struct claim_terms terms = { .worker = "w", .lease_us = LEASE };
    struct claim claim;
    struct job claimed;
    struct letter l;
    make_hook(f, "a:443", NULL, all);
    make_hook(f, "b:443", "job.succeeded job.failed", ends);
    fixture_job(f, 0, job);
    assert_int_equal(fixture_pending(f), 1);
    assert_true(run_claim(f->store, &terms, &claim, &claimed, NULL));
    job_release(&claimed);
    assert_true(run_progress(f->store, &claim, 1, 2, 0, NULL));           /* nobody asked for that */
    assert_int_equal(fixture_pending(f), 2);
    assert_true(run_fail(f->store, &claim, "{\"code\":\"model.invalid\"}", NULL));
    assert_int_equal(fixture_pending(f), 4);
    char told[2][128] = { "", "" };                                     /* of all, of ends: in the order of sending */
    while (next(f, "", NULL, &l)) {
        char *at = told[strcmp(l.webhook_id, ends) == 0];
        size_t n = strlen(at);
        snprintf(at + n, sizeof told[0] - n, "%s ", l.type);
        assert_true((strcmp(l.type, "job.failed") == 0) == (strstr(l.body, "model.invalid") != NULL));
        end(f, &l, DELIVERY_DELIVERED, false);
    }
    assert_string_equal(told[0], "job.queued job.started job.failed ");
    assert_string_equal(told[1], "job.failed ");
    assert_int_equal(fixture_pending(f), 0);
}

static void what_is_not_committed_is_not_told(void **state)
{
    struct fixture *f = *state;
    struct job_request r = fixture_request(f);
    struct webhook_request own = { .url = "https://own.example/", .origin = "own.example:443" };
    struct quota none = { .running = QUOTA_NONE, .queued = 0, .bytes = QUOTA_NONE };
    struct job job;
    struct err e = { 0 };
    struct outbox_counts n;
    char hook[ID_SIZE];
    make_hook(f, "a:443", NULL, hook);
    team_create(f->store, TEAM_LOCAL, &none, NULL);                     /* it may be there */
    assert_true(team_set_quota(f->store, TEAM_LOCAL, &none, NULL));
    r.webhook = &own;
    assert_false(job_insert(f->store, TEAM_LOCAL, &r, &job, &e));
    assert_int_equal(e.code, ERR_QUOTA);
    assert_int_equal(fixture_pending(f), 0);
    none.queued = 1;
    assert_true(team_set_quota(f->store, TEAM_LOCAL, &none, NULL));
    assert_true(job_insert(f->store, TEAM_LOCAL, &r, &job, &e));
    assert_int_equal(fixture_pending(f), 2);
    fixture_reopen(f);                                                  /* and it is there after a restart */
    assert_true(outbox_count(f->store, &n, NULL));
    assert_int_equal(n.pending, 2);
    assert_true(n.oldest_due > 0);
    job_release(&job);
}

static void a_lane_is_one_host_and_port_of_a_team(void **state)
{
    struct fixture *f = *state;
    char a1[ID_SIZE], a2[ID_SIZE], b[ID_SIZE], busy[64];
    struct delivery d;
    struct letter l;
    make_hook(f, "a:443", NULL, a1);
    make_hook(f, "a:443", NULL, a2);
    make_hook(f, "a:8443", NULL, b);
    const char *const hooks[] = { a1, a2, b };
    for (int i = 0; i < 3; i++) {
        assert_true(webhook_ping(f->store, TEAM_LOCAL, hooks[i], &d, NULL));
        delivery_release(&d);
    }
    assert_true(next(f, "", NULL, &l));
    assert_string_equal(l.webhook_id, a1);
    snprintf(busy, sizeof busy, "%s,", l.lane);
    letter_release(&l);
    assert_true(next(f, busy, NULL, &l));
    assert_string_equal(l.webhook_id, b);
    letter_release(&l);
    assert_false(next(f, busy, busy, &l));                              /* busy, and no other is to be had */
    assert_true(next(f, "", busy, &l));
    assert_string_equal(l.webhook_id, a1);
    end(f, &l, DELIVERY_PENDING, false);
    assert_true(next(f, "", busy, &l));                                 /* the one that has waited longer */
    assert_string_equal(l.webhook_id, a2);
    end(f, &l, DELIVERY_DELIVERED, false);
    assert_false(next(f, "", busy, &l));
    assert_int_equal(fixture_pending(f), 2);
}

static void a_hook_is_disabled_when_its_receiver_is_dead(void **state)
{
    struct fixture *f = *state;
    static const struct { bool gone, other_first, disabled; } cases[] = {
        { false, false, true }, { false, true, false }, { true, true, true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char id[ID_SIZE];
        struct delivery first, second;
        struct letter l, other;
        struct webhook h;
        make_hook(f, "a:443", NULL, id);
        assert_true(webhook_ping(f->store, TEAM_LOCAL, id, &first, NULL));
        assert_true(next(f, "", NULL, &l));
        assert_string_equal(l.id, first.id);
        assert_true(webhook_ping(f->store, TEAM_LOCAL, id, &second, NULL));
        if (cases[i].other_first) {
            struct letter_result later = { .state = DELIVERY_PENDING, .at = clock_now_us(), .due_at = clock_now_us() + 3600 * SECOND };
            bool disabled;
            assert_true(outbox_result(f->store, &l, &later, &disabled, NULL));
            assert_true(next(f, "", NULL, &other));
            assert_string_equal(other.id, second.id);
            assert_false(end(f, &other, DELIVERY_DELIVERED, false));
        }
        assert_int_equal(end(f, &l, DELIVERY_FAILED, cases[i].gone), cases[i].disabled);
        assert_true(webhook_get(f->store, TEAM_LOCAL, id, &h, NULL));
        assert_int_equal(h.disabled_at > 0, cases[i].disabled);
        assert_false(next(f, "", NULL, &l));
        assert_true(webhook_delete(f->store, TEAM_LOCAL, id, NULL));
        assert_int_equal(fixture_pending(f), 0);
        delivery_release(&first);
        delivery_release(&second);
    }
}

struct trying { struct fixture *f; struct letter *first; };

static void *try_often(void *arg)
{
    struct trying *t = arg;
    struct letter l = *t->first;
    for (int i = 0; i < 200; i++) {
        struct letter_result again = { .state = DELIVERY_PENDING, .at = clock_now_us(), .due_at = 1 };
        int64_t due;
        bool disabled;
        bool ok = outbox_result(t->f->store, &l, &again, &disabled, NULL);
        letter_release(&l);
        if (!ok || !outbox_next(t->f->store, "", NULL, &l, &due, NULL))
            return NULL;
    }
    letter_release(&l);
    return t;
}

static void what_a_delivery_says_and_its_log_are_of_one_moment(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct delivery d;
    struct letter l;
    pthread_t thread;
    void *all;
    make_hook(f, "a:443", NULL, id);
    assert_true(webhook_ping(f->store, TEAM_LOCAL, id, &d, NULL));
    assert_true(next(f, "", NULL, &l));
    struct trying t = { f, &l };
    assert_int_equal(pthread_create(&thread, NULL, try_often, &t), 0);
    int64_t end = clock_mono_us() + 20 * SECOND;
    for (int64_t seen = 0; seen < 200 && clock_mono_us() < end;) {
        struct delivery now;
        assert_true(delivery_get(f->store, TEAM_LOCAL, id, d.id, &now, NULL));
        seen = now.attempts;
        size_t told = now.nlog;
        delivery_release(&now);
        if ((int64_t)told != seen)
            fail_msg("%lld attempts, and %zu in the log", (long long)seen, told);
    }
    assert_int_equal(pthread_join(thread, &all), 0);
    assert_non_null(all);
    delivery_release(&d);
}

static void a_result_of_what_was_deleted_is_nobodys_concern(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct delivery d;
    struct letter l;
    make_hook(f, "a:443", NULL, id);
    assert_true(webhook_ping(f->store, TEAM_LOCAL, id, &d, NULL));
    assert_true(next(f, "", NULL, &l));
    assert_true(webhook_delete(f->store, TEAM_LOCAL, id, NULL));
    assert_false(end(f, &l, DELIVERY_FAILED, true));
    delivery_release(&d);
}

static void what_was_kept_long_enough_goes(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE], job[ID_SIZE];
    struct job_request r = fixture_request(f);
    struct webhook_request own = { .url = "https://own.example/", .origin = "own.example:443", .events = "job.canceled" };
    struct retention keep = { .deliveries_us = 1 };
    struct forgotten gone;
    struct webhook_list list;
    struct job made;
    struct letter l;
    make_hook(f, "a:443", NULL, id);
    r.webhook = &own;
    assert_true(job_insert(f->store, TEAM_LOCAL, &r, &made, NULL));
    snprintf(job, sizeof job, "%s", made.id);
    job_release(&made);
    assert_true(next(f, "", NULL, &l));
    end(f, &l, DELIVERY_DELIVERED, false);
    usleep(1000);
    assert_true(store_forget(f->store, &keep, &gone, NULL));
    assert_int_equal(gone.deliveries, 1);
    assert_int_equal(gone.webhooks, 0);                                 /* its job has not ended */
    assert_true(job_cancel(f->store, TEAM_LOCAL, job, NULL, NULL, &made, NULL));
    job_release(&made);
    assert_int_equal(fixture_pending(f), 2);
    assert_true(store_forget(f->store, &keep, &gone, NULL));
    assert_int_equal(gone.deliveries + gone.webhooks, 0);               /* what waits is kept */
    while (next(f, "", NULL, &l))
        end(f, &l, DELIVERY_DELIVERED, false);
    usleep(1000);
    assert_true(store_forget(f->store, &keep, &gone, NULL));
    assert_int_equal(gone.deliveries, 2);
    assert_int_equal(gone.webhooks, 1);
    assert_true(webhook_list(f->store, TEAM_LOCAL, NULL, (struct page){ .limit = 10 }, &list, NULL));
    assert_int_equal(list.n, 1);                                        /* the team's stays */
    webhook_list_release(&list);
}

/* ---- the schedule ---- */

static void a_failed_attempt_waits_as_the_schedule_says(void **state)
{
    (void)state;
    struct schedule s;
    struct err e = { 0 };
    assert_true(schedule_parse("5,300, 86400", &s, &e));
    assert_int_equal(s.n, 3);
    static const struct { int tries; int64_t retry_after; double random; int64_t seconds; } cases[] = {
        { 0, 0, 0, 5 }, { 1, 0, 0, 300 }, { 1, 0, 1, 330 }, { 1, 0, 0.5, 315 }, { 2, 0, 0, 86400 }, { 3, 0, 0, -1 }, { 99, 7, 1, -1 },
        { 0, 3, 0, 5 }, { 0, 60, 0, 60 }, { 0, 1000000000, 0, 86400 }, { 0, INT64_MAX, 1, 86400 }, { 0, INT64_MIN, 0, 5 }, { 2, 60, 1, 95040 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t us = schedule_delay(&s, cases[i].tries, cases[i].retry_after, cases[i].random);
        if (us != (cases[i].seconds < 0 ? -1 : cases[i].seconds * SECOND))
            fail_msg("case %zu: %lld", i, (long long)us);
    }
    assert_true(schedule_parse("", &s, &e));
    assert_int_equal(schedule_delay(&s, 0, 0, 0), -1);
    static const char *const wrong[] = { "x", "5,x", "-1", "5s", "9999999", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", "99999999999999999999" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        e = (struct err){ 0 };
        if (schedule_parse(wrong[i], &s, &e) || e.code != ERR_CONFIG)
            fail_msg("\"%s\" is taken", wrong[i]);
    }
}

/* ---- the signature ---- */

/* The example of the reference libraries of Standard Webhooks. */
static void the_signature_is_that_of_standard_webhooks(void **state)
{
    (void)state;
    char signature[SIGNATURE_SIZE], body[] = "{\"test\": 2432232314}";
    struct letter l = { .event_id = "msg_p5jXN8AQM9LWM0D4loKWxJek", .secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", .body = body };
    assert_true(webhook_sign(&l, 1614265330, signature));
    assert_string_equal(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    memcpy(l.old_secret, l.secret, sizeof l.secret);
    assert_true(webhook_sign(&l, 1614265330, signature));
    assert_string_equal(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    l.secret[0] = l.old_secret[0] = '\0';
    assert_false(webhook_sign(&l, 1614265330, signature));              /* nothing goes out unsigned */
}

static void a_secret_is_whsec_and_24_to_64_bytes(void **state)
{
    (void)state;
    static const struct { const char *secret; size_t n; } cases[] = {
        { "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 24 },
        { "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==", 64 },
        { "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", 0 },
        { "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa==", 0 }, { "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 0 }, { "whsec_", 0 }, { "", 0 },
        { "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", 0 }, { "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa Sw", 0 }, { "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-_", 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t key[WEBHOOK_KEY_MAX];
        size_t n = 0;
        bool ok = webhook_key(cases[i].secret, key, &n);
        if (ok != (cases[i].n > 0) || (ok && n != cases[i].n))
            fail_msg("\"%s\": %d, %zu", cases[i].secret, ok, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_event_is_in_the_outbox_of_who_wants_it_and_of_nobody_else, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(what_is_not_committed_is_not_told, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_lane_is_one_host_and_port_of_a_team, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_hook_is_disabled_when_its_receiver_is_dead, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(what_a_delivery_says_and_its_log_are_of_one_moment, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_result_of_what_was_deleted_is_nobodys_concern, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(what_was_kept_long_enough_goes, fixture_setup, fixture_teardown),
        cmocka_unit_test(a_failed_attempt_waits_as_the_schedule_says),
        cmocka_unit_test(the_signature_is_that_of_standard_webhooks),
        cmocka_unit_test(a_secret_is_whsec_and_24_to_64_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
