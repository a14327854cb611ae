#include "api/limit.h"

#include "api/app.h"
#include "core/base/clock.h"

static long long seconds_of(int64_t us) { return (us + 999999) / 1000000; }

/* draft-ietf-httpapi-ratelimit-headers: q requests in w seconds; r are left, and in t seconds it is q again. */
static void tell(struct reply *reply, const struct rate_state *s)
{
    long long window = (s->limit.burst + s->limit.per_second - 1) / s->limit.per_second;
    reply_field(reply, "RateLimit-Policy", "\"token\";q=%lld;w=%lld", (long long)s->limit.burst, window);
    reply_field(reply, "RateLimit", "\"token\";r=%lld;t=%lld", (long long)s->remaining, seconds_of(s->full_us));
}

static bool wait_for(const struct rate_state *s, const char *who, struct reply *reply, struct err *e)
{
    reply_field(reply, "Retry-After", "%lld", seconds_of(s->wait_us));
    return err_set(e, ERR_RATE, "Authorization", "%s more than %lld times a second; wait for as many seconds as Retry-After says", who,
                   (long long)s->limit.per_second);
}

bool limit_token(struct app *app, const struct request *req, struct reply *reply, struct err *e)
{
    struct rate_state state;
    if (!app->rates || !req->who.id[0])
        return true;
    bool ok = rate_take(app->rates, req->who.id, clock_mono_us(), &state);
    tell(reply, &state);
    return ok || wait_for(&state, "this token has asked", reply, e);
}

bool limit_guess(struct app *app, const struct request *req, struct reply *reply, struct err *e)
{
    struct rate_state state;
    return !app->guesses || rate_take(app->guesses, req->peer, clock_mono_us(), &state)
        || wait_for(&state, "this address has sent tokens that are not valid", reply, e);
}
