/*
 * inspect.h - look into an uploaded model or data set, in a child process, without blocking.
 *
 * The daemon parses neither.  Two supervising threads take requests from a bounded queue; the
 * answer comes as a callback in one of those threads.
 */
#ifndef SERVER_INSPECT_H
#define SERVER_INSPECT_H

#include "core/base/json.h"
#include "server/config.h"
#include "storage/asset.h"

struct inspector;

struct inspector *inspector_start(const struct config *config, struct store *store, struct err *e);
void inspector_drain(struct inspector *i);      /* from now on everything is ERR_DRAINING, what runs too; returns at once */
void inspector_stop(struct inspector *i);       /* answers everything still queued with ERR_DRAINING; NULL is fine */

/*
 * Called exactly once per accepted request.  json: result.json, malloc'd, the callback's to free; NULL if it failed, then *e
 * says why (a model's or data set's own fault, or the environment's).
 */
typedef void inspect_done_fn(void *arg, char *json, const struct err *e);

/* What is to be looked into.  Team must own the blobs; of a file path and digest are used. */
struct inspect_wish {
    const char *team;
    enum asset_kind kind;
    const struct asset_file *files;         /* [n]; copied */
    size_t n;
    const struct asset_file *data;          /* not NULL: the files are a model, and this data set is held against it */
    json_t *job;                            /* not NULL: the files are a model, and a job that has these members is asked about.  Taken, also where
                                               the wish is refused: another thread will free it, and jansson's counts are not for two at a time */
};

/* Returns at once.  False, without a callback, with ERR_BUSY when the queue is full or ERR_DRAINING. */
bool inspect_submit(struct inspector *i, const struct inspect_wish *w, inspect_done_fn *done, void *arg, struct err *e);

/* The same for a caller that may wait: the result JSON, malloc'd, in *ret_json. */
bool inspect_wait(struct inspector *i, const struct inspect_wish *w, char **ret_json, struct err *e);

/* Whether this is a result that is passed on: a JSON object, of 64 levels at most.  ERR_BUG: the child did not write what it should. */
bool inspect_result_ok(const char *text, size_t n, struct err *e);

#endif
