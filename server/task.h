/*
 * task.h - what a child is given: a scratch folder with job.json in it, and descriptors of blobs.
 * Rows become a task here; nothing else of the daemon reaches the child.
 */
#ifndef SERVER_TASK_H
#define SERVER_TASK_H

#include "core/base/json.h"
#include "server/cgroup.h"
#include "server/config.h"
#include "server/launcher.h"
#include "storage/asset.h"

enum { TASK_MAX_INPUTS = ASSET_MAX_FILES + 2 };

struct task {
    json_t *job;                    /* job.json, growing */
    int inputs[TASK_MAX_INPUTS];    /* open, close-on-exec */
    int ninputs;
    uint64_t bytes;                 /* of all inputs */
    int64_t foreseen;               /* bytes of memory, by an estimate; 0: there is none */
    int scratch;                    /* the folder, open; -1: none yet */
};
#define TASK_NONE ((struct task){ .scratch = -1 })

bool task_begin(struct task *t, const char *type, struct err *e);
void task_release(struct task *t);                  /* closes everything; TASK_NONE is fine */

/* job.model = {"files": [...]}; every byte is hashed again on the way: a rotten blob is never input. */
bool task_add_model(struct task *t, struct store *s, const char *team, const struct asset_file *files, size_t n, struct err *e);
/* job[key] = {"name", "fd"}: "calibration" or "evaluation". */
bool task_add_file(struct task *t, const char *key, struct store *s, const char *team, const struct asset_file *file, struct err *e);
bool task_set_int(struct task *t, const char *key, int64_t value, struct err *e);
bool task_set_all(struct task *t, json_t *members, struct err *e);        /* members: borrowed */
bool task_set_json(struct task *t, const char *key, const char *text, struct err *e);

/* Writes job.json into t->scratch. */
bool task_write(const struct task *t, struct err *e);

/* The limits and the sandbox of a process that works on these inputs. */
struct launch task_launch(const struct task *t, const struct config *c, const char *program, int64_t threads, int64_t seconds);

/* What its control group may have, if it has one. */
struct cgroup_bounds task_bounds(const struct task *t, const struct config *c, int64_t threads);

/* How many bytes one result may have. */
uint64_t task_result_limit(const struct task *t);

/* Threads of one job: as configured, or the processors divided among the workers. */
int64_t task_threads(const struct config *c);

/* Bytes that all jobs may take together: as configured, or 80 % of the machine's or the container's. */
int64_t task_jobs_memory(const struct config *c);

/* The program to run: as configured, or next to this one; malloc'd.  NULL with *e if it cannot be executed. */
char *task_program(const struct config *c, struct err *e);

#endif
