#include "server/task.h"

#include "core/base/io.h"
#include "server/sandbox.h"
#include "storage/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <unistd.h>

enum { RECIPE_DEPTH = 32 };
static const int64_t MIB = INT64_C(1) << 20, GIB = INT64_C(1) << 30;

static bool keep(struct task *t, const char *key, json_t *value, struct err *e)
{
    return json_object_set_new(t->job, key, value) == 0 || err_set(e, ERR_MEMORY, key, "no memory for the task; try again");
}

bool task_begin(struct task *t, const char *type, struct err *e)
{
    *t = TASK_NONE;
    t->job = json_object();
    return t->job ? keep(t, "type", json_string(type), e) : err_sys(e, "task", "begin");
}

void task_release(struct task *t)
{
    json_decref(t->job);
    for (int i = 0; i < t->ninputs; i++)
        close(t->inputs[i]);
    if (t->scratch >= 0)
        close(t->scratch);
    *t = TASK_NONE;
}

/* {"name", "fd"} of a blob opened for the child; NULL with *e. */
static json_t *open_input(struct task *t, struct store *s, const char *team, const struct asset_file *file, struct err *e)
{
    uint64_t size;
    if (t->ninputs == TASK_MAX_INPUTS) {
        err_set(e, ERR_REQUEST_INVALID, "files", "a job takes at most %d files", (int)TASK_MAX_INPUTS);
        return NULL;
    }
    if (!blob_open(s, team, file->digest, true, &t->inputs[t->ninputs], &size, e))
        return NULL;
    t->bytes += size;
    json_t *entry = json_pack("{s:s, s:i}", "name", file->path, "fd", LAUNCH_FIRST_INPUT_FD + t->ninputs);
    t->ninputs++;
    if (!entry)
        err_set(e, ERR_MEMORY, "task", "no memory for the name of a file; try again");
    return entry;
}

bool task_add_model(struct task *t, struct store *s, const char *team, const struct asset_file *files, size_t n, struct err *e)
{
    json_t *list = json_array();
    bool ok = list || err_sys(e, "task", "add a model");
    for (size_t i = 0; ok && i < n; i++) {
        json_t *entry = open_input(t, s, team, &files[i], e);
        ok = entry && (json_array_append_new(list, entry) == 0 || err_sys(e, "task", "add a model"));
    }
    if (ok)
        return keep(t, "model", json_pack("{s:o}", "files", list), e);
    json_decref(list);
    return false;
}

bool task_add_file(struct task *t, const char *key, struct store *s, const char *team, const struct asset_file *file, struct err *e)
{
    json_t *entry = open_input(t, s, team, file, e);
    return entry && keep(t, key, entry, e);
}

bool task_set_int(struct task *t, const char *key, int64_t value, struct err *e) { return keep(t, key, json_integer(value), e); }

bool task_set_json(struct task *t, const char *key, const char *text, struct err *e)
{
    json_t *value = json_parse(text, strlen(text), RECIPE_DEPTH, ERR_BUG, e);
    return value && keep(t, key, value, e);
}

bool task_set_all(struct task *t, json_t *members, struct err *e)
{
    return json_object_update(t->job, members) == 0 || err_set(e, ERR_MEMORY, "task", "no memory for the task; try again");
}

bool task_write(const struct task *t, struct err *e)
{
    char dir[32];
    char *text = json_text(t->job, JSON_COMPACT);
    snprintf(dir, sizeof dir, "/proc/self/fd/%d", t->scratch);
    bool ok = text ? io_save(dir, "job.json", text, strlen(text), e) : err_sys(e, "task", "write");
    free(text);
    return ok;
}

/*
 * Generous on purpose: these stop a runaway, the budgets inside the quantizer keep it sensible.  The model is mapped,
 * copied while it is rewritten and written once more; OpenBLAS maps 128 MiB a thread; each thread's stack and heap
 * arena map 80 MiB.
 */
struct launch task_launch(const struct task *t, const struct config *c, const char *program, int64_t threads, int64_t seconds)
{
    int64_t bytes = (int64_t)t->bytes;
    struct sandbox box;
    sandbox_choose(c->sandbox, &box, NULL);             /* checked at start; the kernel has not changed */
    int64_t space = 2 * GIB + 256 * MIB * threads + 2 * c->memory + 6 * bytes;
    return (struct launch){
        .program = program,
        .inputs = t->ninputs,
        .address_space = c->address_space ? c->address_space : space,
        .cpu_seconds = seconds * threads + 60,          /* the daemon's own clock strikes first */
        .file_size = 16 * GIB + 4 * bytes,
        .landlock = box.landlock,
        .sealed = box.seccomp,
    };
}

/*
 * What it holds at a time, pages of files aside that the kernel takes back when it must: less than what it maps.  As generous: an
 * estimate is believed twice over.  Threads: its pool, its watcher, its first, and some that a library may start.
 */
struct cgroup_bounds task_bounds(const struct task *t, const struct config *c, int64_t threads)
{
    enum { SPARE = 16 };
    int64_t held = GIB + 128 * MIB * threads + 2 * c->memory + 4 * (int64_t)t->bytes;
    return (struct cgroup_bounds){ .memory = held > 2 * t->foreseen ? held : 2 * t->foreseen, .tasks = threads + SPARE };
}

uint64_t task_result_limit(const struct task *t) { return 2 * t->bytes + (uint64_t)GIB; }

int64_t task_threads(const struct config *c)
{
    cpu_set_t set;
    if (c->threads)
        return c->threads;
    int64_t cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int64_t n = cpus / c->workers;
    return n < 1 ? 1 : n > 64 ? 64 : n;
}

/* The number in a file of one; INT64_MAX where there is none ("max" is no number either). */
static int64_t number_in(const char *path)
{
    char text[32] = "", *end;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    errno = 0;
    long long n = strtoll(text, &end, 10);
    return got > 0 && end != text && errno == 0 && n > 0 ? n : INT64_MAX;
}

int64_t task_jobs_memory(const struct config *c)
{
    static const char *const limits[] = { "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes" };
    if (c->jobs_memory)
        return c->jobs_memory;
    int64_t bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        int64_t limit = number_in(limits[i]);
        bytes = limit < bytes ? limit : bytes;
    }
    return bytes / 10 * 8;
}

char *task_program(const struct config *c, struct err *e)
{
    char self[PATH_MAX];
    char *path = NULL;
    if (c->repquant[0]) {
        path = realpath(c->repquant, NULL);
    } else {
        ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
        self[n < 0 ? 0 : n] = '\0';
        if (n > 0 && asprintf(&path, "%s/repquant", dirname(self)) < 0)
            path = NULL;
    }
    if (path && access(path, X_OK) == 0)
        return path;
    err_sys(e, path ? path : c->repquant, "find the program that computes (--repquant)");
    free(path);
    return NULL;
}
