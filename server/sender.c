/*
 * sender.c - eight threads that deliver; one of them at a time looks for the next delivery.
 *
 * NOBODY HOLDS UP OTHERS  Hooks of a team at one host and port are a lane: one delivery at a time, in turn with other lanes.  A
 * lane is `quick` while its last answer came within five seconds.  All others together, those never heard of included, get half of the threads,
 * so receivers that hang, however many, leave the other half to those that answer.
 *
 * LOCKING  s->mu guards what is named below it.  It is never held while something is read, stored or sent; storage calls sender_kick() with
 * no lock of its own.
 */
#include "server/sender.h"

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/cond.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/metric.h"
#include "server/outbound.h"
#include "storage/problem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { THREADS = 8, UNPROVEN_MAX = THREADS / 2, QUICK_LANES = 1024, ANSWER_MAX = 64 << 10, KEPT = 4000, DAY_SECONDS = 86400 };
static const int64_t QUICK_US = 5000000, FLUSH_US = 5000000, SLEEP_MAX_US = 60000000, ERROR_US = 5000000;

struct sender {
    struct store *store;
    struct outbound *outbound;
    struct schedule schedule;
    int64_t seconds;                        /* for one attempt */
    atomic_bool stopping;                   /* also ends what is under way */
    pthread_mutex_t mu;                     /* guards all below */
    pthread_cond_t changed;
    bool kicked, looking, ending;           /* ending: go when nothing is due */
    struct { char lane[WEBHOOK_LANE_SIZE]; bool quick; } busy[THREADS];      /* lane "": free */
    char quick[QUICK_LANES][WEBHOOK_LANE_SIZE];
    int next_quick;                         /* the oldest, to be replaced */
    int running, started;
    pthread_t threads[THREADS];
};

/* ---- the schedule ---- */

bool schedule_parse(const char *text, struct schedule *ret, struct err *e)
{
    enum { MOST_SECONDS = 30 * DAY_SECONDS };
    ret->n = 0;
    for (const char *s = text; *s; s += strspn(s, ", ")) {
        char *end;
        long n = strtol(s, &end, 10);
        if (end == s || (*end && !strchr(", ", *end)) || n < 0 || n > MOST_SECONDS || ret->n == SENDER_MAX_RETRIES)
            return err_set(e, ERR_CONFIG, "webhook-retries", "\"%.60s\" is not a list of at most %d numbers of seconds", text, (int)SENDER_MAX_RETRIES);
        ret->us[ret->n++] = n * INT64_C(1000000);
        s = end;
    }
    return true;
}

int64_t schedule_delay(const struct schedule *schedule, int tries, int64_t retry_after, double random)
{
    if (tries >= schedule->n)
        return -1;
    int64_t us = schedule->us[tries] + (int64_t)((double)schedule->us[tries] / 10 * random);
    int64_t asked = (retry_after < 0 ? 0 : retry_after > DAY_SECONDS ? DAY_SECONDS : retry_after) * 1000000;
    return asked > us ? asked : us;
}

static double random_share(void)
{
    uint32_t x = 0;
    return getrandom(&x, sizeof x, 0) == (ssize_t)sizeof x ? (double)x / UINT32_MAX : 0.5;
}

/* ---- one attempt ---- */

static bool sign_with(const char *secret, const struct buf *signed_text, char *ret, size_t size)
{
    uint8_t key[WEBHOOK_KEY_MAX], mac[HASH_SIZE];
    size_t n;
    if (!webhook_key(secret, key, &n))
        return true;                        /* there is none */
    hash_hmac(key, n, signed_text->p, signed_text->n, mac);
    explicit_bzero(key, sizeof key);
    char *text = base64_encode(mac, sizeof mac);
    size_t have = strlen(ret);
    if (text)
        snprintf(ret + have, size - have, "%sv1,%s", have ? " " : "", text);
    free(text);
    return text != NULL;
}

bool webhook_sign(const struct letter *l, int64_t timestamp, char ret[SIGNATURE_SIZE])
{
    struct buf text = BUF_INIT(1 << 20);
    ret[0] = '\0';
    buf_printf(&text, "%s.%lld.%s", l->event_id, (long long)timestamp, l->body);
    bool ok = !text.bad && sign_with(l->secret, &text, ret, SIGNATURE_SIZE) && sign_with(l->old_secret, &text, ret, SIGNATURE_SIZE) && ret[0];
    buf_release(&text);
    return ok;
}

struct response { char text[KEPT + 1]; size_t n; };

static bool take_head(void *arg, int status, int64_t length, struct err *e)
{
    (void)arg, (void)status, (void)length, (void)e;
    return true;
}

/* Keeps the beginning, as text: the rest is only counted. */
static bool take_bytes(void *arg, const void *p, size_t n, struct err *e)
{
    struct response *r = arg;
    (void)e;
    size_t more = n < KEPT - r->n ? n : KEPT - r->n;
    memcpy(r->text + r->n, p, more);
    r->n += more;
    return true;
}

/* Strangers' bytes become ASCII: what is none, and what steers terminals, is a question mark. */
static void make_text(struct response *r)
{
    for (size_t i = 0; i < r->n; i++)
        if ((unsigned char)r->text[i] >= 0x7f || ((unsigned char)r->text[i] < ' ' && !strchr("\r\n\t", r->text[i])) || !r->text[i])
            r->text[i] = '?';
    r->text[r->n] = '\0';
}

static bool post(struct sender *s, const struct letter *l, struct response *ret, struct outbound_answer *ret_answer, struct err *e)
{
    char id[64], stamp[64], signature[SIGNATURE_SIZE], signatures[SIGNATURE_SIZE + 24];
    int64_t now = clock_now_us() / 1000000;
    const char *fields[] = { "Content-Type: application/cloudevents+json", "Accept: */*", id, stamp, signatures, NULL };
    if (!webhook_sign(l, now, signature))
        return err_set(e, ERR_MEMORY, "webhook", "no memory to sign");
    snprintf(id, sizeof id, "webhook-id: %s", l->event_id);
    snprintf(stamp, sizeof stamp, "webhook-timestamp: %lld", (long long)now);
    snprintf(signatures, sizeof signatures, "webhook-signature: %s", signature);
    struct outbound_request r = {
        .method = "POST", .url = l->url, .fields = fields, .body = l->body, .body_n = strlen(l->body), .seconds = s->seconds, .limit = ANSWER_MAX,
        .stop = &s->stopping, .head = take_head, .take = take_bytes, .arg = ret,
    };
    bool ok = outbound_run(s->outbound, &r, ret_answer, e);
    make_text(ret);
    return ok;
}

/* What the attempt means for the delivery; *e says why it failed. */
static void judge(struct sender *s, const struct letter *l, const struct outbound_answer *answer, struct letter_result *r, struct err *e)
{
    int status = r->status = answer->status;
    if (!e->code && status >= 200 && status < 300) {
        r->state = DELIVERY_DELIVERED;
        return;
    }
    if (status >= 300 && status < 400)
        err_set(e, ERR_TARGET_FAILED, "/url", "the receiver answered with %d; redirects are not followed", status);
    err_set(e, ERR_TARGET_FAILED, "/url", "the receiver answered with %d", status);
    r->gone = status == 410;
    int64_t delay = r->gone ? -1 : schedule_delay(&s->schedule, l->tries, answer->retry_after, random_share());
    r->state = e->code == ERR_TARGET ? DELIVERY_BLOCKED : delay < 0 ? DELIVERY_FAILED : DELIVERY_PENDING;
    r->due_at = r->state == DELIVERY_PENDING ? r->at + r->us + delay : 0;
}

static void count(const struct letter_result *r)
{
    static const int word[DELIVERY_STATES] = { [DELIVERY_DELIVERED] = 0, [DELIVERY_PENDING] = 1, [DELIVERY_FAILED] = 2, [DELIVERY_BLOCKED] = 3 };
    metric_observe(METRIC_WEBHOOK_SECONDS, word[r->state], (double)r->us / 1e6);
}

/* The URL may hold what only the receiver should know, so it is in no line. */
static void say(const struct letter *l, const struct letter_result *r, const struct err *e, bool disabled)
{
    if (e->code)
        log_line(LOG_WARN, "webhook.failed", "%s to %s, attempt %d: %s; %s", l->id, l->webhook_id, l->tries + 1, e->text, delivery_state_name(r->state));
    else
        log_line(LOG_DEBUG, "webhook.delivered", "%s to %s", l->id, l->webhook_id);
    if (disabled)
        log_line(LOG_WARN, "webhook.disabled", "%s of team %s", l->webhook_id, l->team);
}

/* Returns whether the receiver answered quickly, whatever it said.  *ret_kept: what became of it is written down. */
static bool deliver(struct sender *s, const struct letter *l, bool *ret_kept)
{
    struct response *response = calloc(1, sizeof *response);
    struct outbound_answer answer = { 0 };
    struct letter_result r = { .at = clock_now_us() };
    struct err e = { 0 }, lost = { 0 };
    bool disabled = false;
    int64_t began = clock_mono_us();
    *ret_kept = true;
    bool answered = response ? post(s, l, response, &answer, &e) : err_sys(&e, "webhook", "send");
    r.us = clock_mono_us() - began;
    if (e.code == ERR_DRAINING) {           /* it was no attempt */
        free(response);
        return false;
    }
    judge(s, l, &answer, &r, &e);
    char *problem = e.code ? problem_text(&e) : NULL;
    r.problem = problem;
    r.response = r.status ? response->text : NULL;
    count(&r);
    *ret_kept = outbox_result(s->store, l, &r, &disabled, &lost);
    if (!*ret_kept)
        log_line(LOG_ERROR, "webhook.result", "%s: %s", lost.where, lost.text);
    metric_add(METRIC_WEBHOOK_DISABLED, disabled);
    say(l, &r, &e, disabled);
    free(problem);
    free(response);
    return answered && r.us < QUICK_US;
}

/* ---- lanes; s->mu is held ---- */

static int quick_place(const struct sender *s, const char *lane)
{
    for (int i = 0; i < QUICK_LANES; i++)
        if (strcmp(s->quick[i], lane) == 0)
            return i;
    return -1;
}

static void note_quick(struct sender *s, const char *lane, bool quick)
{
    int at = quick_place(s, lane);
    if (at >= 0 && !quick)
        s->quick[at][0] = '\0';
    if (at >= 0 || !quick)
        return;
    memcpy(s->quick[s->next_quick], lane, WEBHOOK_LANE_SIZE);
    s->next_quick = (s->next_quick + 1) % QUICK_LANES;
}

static int take_lane(struct sender *s, const char *lane)
{
    int i = 0;
    while (s->busy[i].lane[0])
        i++;                                /* there are as many places as threads */
    memcpy(s->busy[i].lane, lane, WEBHOOK_LANE_SIZE);
    s->busy[i].quick = quick_place(s, lane) >= 0;
    return i;
}

static void add_lane(struct buf *text, const char *lane) { buf_printf(text, "%s,", lane); }

/* The lanes that are taken; returns whether only quick ones may be, which are then listed, too. */
static bool list_lanes(const struct sender *s, struct buf *busy, struct buf *quick)
{
    int unproven = 0;
    add_lane(busy, "");
    add_lane(quick, "");
    for (int i = 0; i < THREADS; i++)
        if (s->busy[i].lane[0]) {
            add_lane(busy, s->busy[i].lane);
            unproven += !s->busy[i].quick;
        }
    for (int i = 0; unproven >= UNPROVEN_MAX && i < QUICK_LANES; i++)
        if (s->quick[i][0])
            add_lane(quick, s->quick[i]);
    return unproven >= UNPROVEN_MAX;
}

/* ---- the threads ---- */

static void wait_for(struct sender *s, int64_t us)
{
    struct timespec until = cond_in(us < 1000 ? 1000 : us > SLEEP_MAX_US ? SLEEP_MAX_US : us);     /* not too long: the wall clock may step */
    pthread_cond_timedwait(&s->changed, &s->mu, &until);
}

static void rest(struct sender *s, int64_t us)
{
    for (int64_t until = clock_mono_us() + us; !atomic_load(&s->stopping) && clock_mono_us() < until;)
        wait_for(s, until - clock_mono_us());
}

/* Looks once; s->mu is held, but not meanwhile.  *ret_due as of outbox_next(). */
static bool look_once(struct sender *s, struct letter *ret, int64_t *ret_due)
{
    struct buf busy = BUF_INIT(1 << 16), quick = BUF_INIT(1 << 16);
    struct err e = { 0 };
    bool only_quick = list_lanes(s, &busy, &quick);
    s->kicked = false;                      /* before looking: a later kick means "look again" */
    pthread_mutex_unlock(&s->mu);
    bool got = false;
    if (busy.bad || quick.bad)
        err_set(&e, ERR_MEMORY, "webhook", "no memory to look for deliveries");
    else
        got = outbox_next(s->store, busy.p, only_quick ? quick.p : NULL, ret, ret_due, &e);
    buf_release(&busy);
    buf_release(&quick);
    if (e.code) {
        log_line(LOG_ERROR, "webhook.next", "%s: %s", e.where, e.text);
        *ret_due = clock_now_us() + ERROR_US;
    }
    pthread_mutex_lock(&s->mu);
    return got;
}

/* Waits for the next delivery; false: it is time to go.  s->mu is held, and s->looking keeps the others from looking, too. */
static bool look(struct sender *s, struct letter *ret)
{
    int64_t due = 0;
    while (!atomic_load(&s->stopping)) {
        if (look_once(s, ret, &due))
            return true;
        if (s->ending && !s->kicked)
            return false;
        if (!s->kicked)
            wait_for(s, due ? due - clock_now_us() : SLEEP_MAX_US);
    }
    return false;
}

static void *sender_main(void *arg)
{
    struct sender *s = arg;
    struct letter l;
    pthread_mutex_lock(&s->mu);
    for (;;) {
        /* s->mu is held here, at the top of every round. */
        while (s->looking)
            pthread_cond_wait(&s->changed, &s->mu);
        s->looking = true;
        bool got = look(s, &l);
        int place = got ? take_lane(s, l.lane) : -1;
        s->looking = false;
        pthread_cond_broadcast(&s->changed);
        if (!got)
            break;
        pthread_mutex_unlock(&s->mu);
        bool kept, quick = deliver(s, &l, &kept);
        pthread_mutex_lock(&s->mu);
        if (!kept)
            rest(s, ERROR_US);              /* it would be sent again at once, and again */
        s->busy[place].lane[0] = '\0';
        note_quick(s, l.lane, quick);
        s->kicked = true;                   /* more of the lane may be due */
        pthread_cond_broadcast(&s->changed);
        letter_release(&l);
    }
    s->running--;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mu);
    return NULL;
}

static void sender_kick(void *arg)
{
    struct sender *s = arg;
    pthread_mutex_lock(&s->mu);
    s->kicked = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mu);
}

/* ---- starting and stopping ---- */

static bool start_threads(struct sender *s, struct err *e)
{
    for (; s->started < THREADS; s->started++) {
        s->running++;
        if (pthread_create(&s->threads[s->started], NULL, sender_main, s) == 0)
            continue;
        s->running--;
        return err_set(e, ERR_MEMORY, "webhook", "the system refused a thread");
    }
    return true;
}

struct sender *sender_start(const struct config *config, struct store *store, struct outbound *outbound, struct err *e)
{
    struct sender *s = calloc(1, sizeof *s);
    if (!s) {
        err_sys(e, "webhook", "start");
        return NULL;
    }
    s->store = store;
    s->outbound = outbound;
    s->seconds = config->webhook_seconds;
    pthread_mutex_init(&s->mu, NULL);
    cond_init(&s->changed);
    store_on_post(store, sender_kick, s);
    pthread_mutex_lock(&s->mu);
    bool ok = schedule_parse(config->webhook_retries, &s->schedule, e) && start_threads(s, e);
    pthread_mutex_unlock(&s->mu);
    if (ok)
        return s;
    sender_stop(s);
    return NULL;
}

void sender_stop(struct sender *s)
{
    if (!s)
        return;
    int64_t until = clock_mono_us() + FLUSH_US;
    pthread_mutex_lock(&s->mu);
    s->ending = true;
    pthread_cond_broadcast(&s->changed);
    while (s->running && clock_mono_us() < until)
        wait_for(s, until - clock_mono_us());
    pthread_mutex_unlock(&s->mu);
    atomic_store(&s->stopping, true);
    sender_kick(s);
    for (int i = 0; i < s->started; i++)
        pthread_join(s->threads[i], NULL);
    store_on_post(s->store, NULL, NULL);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->mu);
    free(s);
}
