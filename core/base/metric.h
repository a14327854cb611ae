/*
 * metric.h - what the process counts about itself, for people who watch it.
 *
 * One table of the process, changed with atomic additions from any thread; nothing here takes a lock or memory.  The first label a
 * metric may have is one of the few words in the table, so the number of series is known at compile time.
 */
#ifndef CORE_BASE_METRIC_H
#define CORE_BASE_METRIC_H

#include <stdint.h>

/*
 * X(name, kind, text, unit, help, label, words): seconds and bytes are units; what is counted or measured has none.  `words` are the label's
 * values with one space between; "" for both: no label.
 */
#define METRICS(X)                                                                                                                  \
    X(HTTP_SECONDS, HISTOGRAM, "http_request_seconds", "seconds", "From the request line to the end of the answer, streams of events aside", "", "") \
    X(HTTP_OPEN, GAUGE, "http_requests_in_flight", "", "Requests that have begun and not ended", "", "")                          \
    X(ANSWER_BYTES, GAUGE, "http_answer_bytes", "bytes", "Answers of 64 KiB and more that lie in memory until they are read", "", "") \
    X(EVENT_READERS, GAUGE, "event_readers", "", "Streams of events and long polls", "", "")                                      \
    X(UPLOADS, GAUGE, "uploads_in_flight", "", "Requests that are sending a file", "", "")                                        \
    X(UPLOAD_HELD, GAUGE, "upload_held_bytes", "bytes", "Of quotas, taken by requests that are sending a file and have no row yet", "", "")            \
    X(UPLOAD_BYTES, COUNTER, "upload_bytes", "bytes", "Bytes of files received", "", "")                                          \
    X(QUEUE_WAIT, HISTOGRAM, "queue_wait_seconds", "seconds", "From a job's last queueing to its claim", "", "")                    \
    X(STAGE_SECONDS, HISTOGRAM, "job_stage_seconds", "seconds", "A running job's time in one stage", "stage",                      \
      "preparing calibrating quantizing exporting evaluating")                                                                    \
    X(WORKERS_BUSY, GAUGE, "workers_busy", "", "Workers that supervise a job", "", "")                                              \
    X(CHILD_BYTES, HISTOGRAM, "child_peak_memory_bytes", "bytes", "Most memory a process of a job or an inspection had", "", "")                        \
    X(WEBHOOK_SECONDS, HISTOGRAM, "webhook_attempt_seconds", "seconds", "One attempt to deliver to a webhook; retried: it failed and another follows", "result", \
      "delivered retried failed blocked")                                                                                         \
    X(WEBHOOK_DISABLED, COUNTER, "webhook_disabled", "", "Webhooks that were disabled because their receiver was", "", "")        \
    X(COMMIT_SECONDS, HISTOGRAM, "database_commit_seconds", "seconds", "Making a write transaction durable", "", "")                \
    X(WRITES_WAITING, GAUGE, "database_waiting_writes", "", "Write transactions that wait for the one before; they share its commit", "", "") \
    X(COMMIT_FAILED, COUNTER, "database_failed_writes", "", "Write transactions that could not be committed", "", "")               \
    X(ROTTED, COUNTER, "blobs_rotted", "", "Blobs whose stored bytes were found to be altered or gone", "", "")

enum metric_id {
#define X(name, kind, text, unit, help, label, words) METRIC_##name,
    METRICS(X)
#undef X
    METRIC_COUNT
};
enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };
enum { METRIC_LABELS = 5, METRIC_BUCKETS = 14 };        /* buckets without the last, which has no bound */

struct metric_info { enum metric_kind kind; const char *name, *unit, *help, *label, *words; };
extern const struct metric_info metric_infos[METRIC_COUNT];

void metric_add(enum metric_id m, int64_t n);

/* Of a histogram: x in its unit; word: which of the label's words, from 0. */
void metric_observe(enum metric_id m, int word, double x);

/* Counter or gauge. */
int64_t metric_value(enum metric_id m);

/* Not of one moment: what is observed meanwhile may be in one number and not yet in another. */
struct metric_histogram { uint64_t upto[METRIC_BUCKETS], count; double sum; };      /* upto: cumulative */
void metric_histogram(enum metric_id m, int word, struct metric_histogram *ret);
double metric_bound(enum metric_id m, int bucket);

#endif
