/*
 * sender.h - sends what is in the outbox (storage/webhook.h): Standard Webhooks, with CloudEvents as bodies.
 *
 * An attempt ends with 2xx, or it failed.  Then another one follows by the schedule, later if Retry-After says so, until the schedule is used
 * up; 410 ends it and disables the hook; an address that may not be connected to blocks it.  What is sent is the same every time but for
 * the timestamp and the signature.
 *
 * A delivery that was under way when the daemon died is sent again: at least once, never not at all.
 */
#ifndef SERVER_SENDER_H
#define SERVER_SENDER_H

#include "server/config.h"
#include "storage/webhook.h"

struct outbound;
struct sender;

/* Before anything that writes to the store.  ERR_CONFIG. */
struct sender *sender_start(const struct config *config, struct store *store, struct outbound *outbound, struct err *e);
/* What is due is still sent, for a few seconds.  NULL is fine. */
void sender_stop(struct sender *s);

/* ---- for tests, too ---- */

enum { SENDER_MAX_RETRIES = 16 };
struct schedule { int64_t us[SENDER_MAX_RETRIES]; int n; };
bool schedule_parse(const char *text, struct schedule *ret, struct err *e);

/*
 * How long to wait after attempt number `tries` (from 0) failed; -1: that was the last one.  retry_after: seconds the receiver asked for, at
 * most a day counts.  random, 0 to 1, adds up to a tenth, so that deliveries that failed together do not come back together.
 */
int64_t schedule_delay(const struct schedule *schedule, int tries, int64_t retry_after, double random);

enum { SIGNATURE_SIZE = 128 };
/* "v1,<base64>" of "id.timestamp.body", one for each secret that signs.  False without memory. */
bool webhook_sign(const struct letter *l, int64_t timestamp, char ret[SIGNATURE_SIZE]);

#endif
