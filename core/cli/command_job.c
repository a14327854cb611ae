/*
 * `repquant job DIR`: one job of a supervisor, as docs/job.md describes it.
 *
 * A watcher thread waits for the control pipe to close and ends the process:
 * whoever started the job is gone or wants it gone.  Everything worth keeping is in the journal by then.
 * It also gives a sign of life every few seconds; a process that hangs as a whole gives none.
 */
#include "core/base/seal.h"
#include "core/cli/cli.h"
#include "core/cli/foresee.h"
#include "core/cli/inventory.h"
#include "core/cli/pipeline.h"
#include "core/cli/progress.h"
#include "core/cli/validation.h"
#include "core/kernel/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYNOPSIS "job [--sealed] DIR"

enum { MAX_TASK = 1 << 20, MAX_DEPTH = 16, TICK_MS = 5000 };

struct task {
    json_t *json;                      /* owns the strings */
    const char *type;
    struct file_ref model[ONNX_MAX_FILES];
    size_t n_model;
    struct file_ref calibration, evaluation;
    struct recipe recipe;
    int64_t seed, threads, memory;
};

static void *watch_control(void *arg)
{
    struct pollfd control = { .fd = STDIN_FILENO, .events = POLLIN };
    char byte;
    (void)arg;
    for (;;) {
        int n = poll(&control, 1, TICK_MS);
        if (n == 0) {                  /* a sign of life; whole lines only, so it cannot split another */
            static const char line[] = "{\"event\":\"alive\"}\n";
            (void)io_write_all(STDOUT_FILENO, line, sizeof line - 1);
        } else if (n > 0 && read(STDIN_FILENO, &byte, 1) <= 0) {
            _exit(err_exit_code(ERR_WORKER_LOST));
        }
    }
}

/* Only a pipe or socket is a control channel: a job started by hand has a terminal or a file there. */
static bool start_watching(struct err *e)
{
    struct stat st;
    pthread_t thread;
    if (fstat(STDIN_FILENO, &st) != 0 || !(S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)))
        return true;
    if (pthread_create(&thread, NULL, watch_control, NULL) != 0)
        return err_set(e, ERR_MEMORY, "control", "the system refused a thread");
    pthread_detach(thread);
    return true;
}

static bool read_file_ref(const json_t *o, const char *pointer, struct file_ref *ret, struct err *e)
{
    int64_t fd = -1;
    *ret = (struct file_ref){ .fd = -1 };
    if (!json_is_object(o))
        return err_set(e, ERR_REQUEST_JSON, pointer, "a file entry must be an object with name and fd or path");
    if (!json_get_str(o, "name", pointer, false, ONNX_MAX_NAME, &ret->name, ERR_REQUEST_JSON, e)
        || !json_get_str(o, "path", pointer, true, ONNX_MAX_NAME, &ret->path, ERR_REQUEST_JSON, e)
        || !json_get_int(o, "fd", pointer, true, 3, 1 << 16, &fd, ERR_REQUEST_JSON, e))
        return false;
    ret->fd = (int)fd;
    return fd >= 0 || ret->path || err_set(e, ERR_REQUEST_JSON, pointer, "a file entry needs fd or path");
}

static bool read_model(const json_t *json, struct task *t, struct err *e)
{
    const json_t *files = json_object_get(json_object_get(json, "model"), "files");
    size_t n = json_array_size(files);
    if (n == 0 || n > ONNX_MAX_FILES)
        return err_set(e, ERR_REQUEST_JSON, "/model/files", "1 to %d files are needed", ONNX_MAX_FILES);
    for (size_t i = 0; i < n; i++)
        if (!read_file_ref(json_array_get(files, i), "/model/files", &t->model[t->n_model++], e))
            return false;
    return true;
}

static bool read_optional_file(const json_t *json, const char *key, struct file_ref *ret, struct err *e)
{
    const json_t *o = json_object_get(json, key);
    return !o || json_is_null(o) || read_file_ref(o, key, ret, e);
}

static bool read_task(const char *dir, struct task *t, struct err *e)
{
    char path[4096], *text = NULL;
    size_t n = 0;
    if ((size_t)snprintf(path, sizeof path, "%s/job.json", dir) >= sizeof path)
        return err_set(e, ERR_NO_FILE, dir, "the folder's path is too long");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, path, "open");
    bool ok = io_read_all(fd, path, MAX_TASK, &text, &n, e) && (t->json = json_parse(text, n, MAX_DEPTH, ERR_REQUEST_JSON, e));
    close(fd);
    free(text);
    return ok && json_get_str(t->json, "type", "", false, 64, &t->type, ERR_REQUEST_JSON, e)
        && json_get_int(t->json, "seed", "", true, 0, INT64_MAX, &t->seed, ERR_REQUEST_JSON, e)
        && json_get_int(t->json, "threads", "", true, 1, 64, &t->threads, ERR_REQUEST_JSON, e)
        && json_get_int(t->json, "memory", "", true, 0, INT64_MAX, &t->memory, ERR_REQUEST_JSON, e)
        && read_optional_file(t->json, "calibration", &t->calibration, e)
        && read_optional_file(t->json, "evaluation", &t->evaluation, e)
        && (!json_object_get(t->json, "model") || read_model(t->json, t, e));
}

static bool save_result(const char *dir, json_t *value, struct err *e)
{
    char *text = value ? json_text(value, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    bool ok = text ? io_save(dir, "result.json", text, strlen(text), e) : err_set(e, ERR_MEMORY, "result.json", "no memory for the result");
    free(text);
    json_decref(value);
    return ok;
}

static const char *const result_file[] = { "result.json" };

static bool do_quantize(const char *dir, struct task *t, struct progress *pr, struct err *e)
{
    struct pipeline_result result;
    if (!t->n_model)
        return err_set(e, ERR_REQUEST_JSON, "/model", "a quantize job needs model");
    if (!recipe_from_json(json_object_get(t->json, "recipe"), "/recipe", NULL, &t->recipe, e))
        return false;
    struct pipeline p = {
        .model = t->model, .n_model = t->n_model, .calibration = t->calibration, .evaluation = t->evaluation,
        .recipe = &t->recipe, .dir = dir, .threads = cli_threads(t->threads), .memory = (uint64_t)t->memory,
        .seed = (uint64_t)t->seed, .keep_journal = true, .events = &pr->events,
    };
    if (!pipeline_run(&p, &result, e))
        return false;
    progress_done(pr, pipeline_files, PIPELINE_FILES);
    return true;
}

static bool do_inspect_model(const char *dir, struct task *t, struct progress *pr, struct err *e)
{
    struct loaded_model m = { 0 };
    struct roles r;
    bool ok = (t->n_model || err_set(e, ERR_REQUEST_JSON, "/model", "an inspect_model job needs model"))
           && load_model(&m, t->model, t->n_model, e) && roles_find(m.g, m.mem, &r, e)
           && save_result(dir, inventory_json(&m, &r), e);
    loaded_model_release(&m);
    if (ok)
        progress_done(pr, result_file, 1);
    return ok;
}

static bool do_inspect_dataset(const char *dir, struct task *t, struct progress *pr, struct err *e)
{
    struct loaded_data d = { 0 };
    bool ok = (t->calibration.name || err_set(e, ERR_REQUEST_JSON, "/calibration", "an inspect_dataset job needs calibration"))
           && load_dataset(&d, &t->calibration, (uint64_t)t->memory, dir, e) && save_result(dir, dataset_describe(&d.set), e);
    loaded_data_release(&d);
    if (ok)
        progress_done(pr, result_file, 1);
    return ok;
}

/* "calibration" and "evaluation" are descriptions here: what inspect_dataset wrote of them. */
static bool do_inspect_job(const char *dir, struct task *t, struct progress *pr, struct err *e)
{
    const json_t *calibration = json_object_get(t->json, "calibration_inventory"), *evaluation = json_object_get(t->json, "evaluation_inventory");
    if (!t->n_model)
        return err_set(e, ERR_REQUEST_JSON, "/model", "an inspect_job job needs model");
    if (!recipe_from_json(json_object_get(t->json, "recipe"), "/recipe", NULL, &t->recipe, e))
        return false;
    struct foresee f = { .model = t->model, .n_model = t->n_model, .calibration = calibration, .evaluation = evaluation, .recipe = &t->recipe,
                         .threads = cli_threads(t->threads), .memory = (uint64_t)t->memory };
    json_t *told = foresee_json(&f, e);
    if (!told || !save_result(dir, told, e))
        return false;
    progress_done(pr, result_file, 1);
    return true;
}

static bool do_validate(const char *dir, struct task *t, struct progress *pr, struct err *e)
{
    struct loaded_model m = { 0 };
    struct loaded_data d = { 0 };
    bool ok = ((t->n_model && t->calibration.name) || err_set(e, ERR_REQUEST_JSON, "/model", "a validate job needs model and calibration"))
           && load_model(&m, t->model, t->n_model, e) && load_dataset(&d, &t->calibration, (uint64_t)t->memory, dir, e);
    json_t *report = ok ? validation_json(&m, &d, e) : NULL;
    ok = report && save_result(dir, report, e);
    loaded_data_release(&d);
    loaded_model_release(&m);
    if (ok)
        progress_done(pr, result_file, 1);
    return ok;
}

static const struct { const char *type; bool (*run)(const char *, struct task *, struct progress *, struct err *); } types[] = {
    { "quantize", do_quantize },
    { "inspect_model", do_inspect_model },
    { "inspect_dataset", do_inspect_dataset },
    { "inspect_job", do_inspect_job },
    { "validate", do_validate },
};

static bool run_task(const char *dir, struct task *t, struct progress *pr, struct err *e)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].type, t->type) == 0)
            return types[i].run(dir, t, pr, e);
    return err_set(e, ERR_REQUEST_JSON, "/type", "no job type \"%.40s\"; quantize, inspect_model, inspect_dataset, inspect_job and validate are known", t->type);
}

int command_job(int argc, char **argv)
{
    struct task t = { .memory = (int64_t)1 << 30 };
    struct progress pr;
    struct err e = { 0 };
    const char *dir;
    int code = 0;
    bool sealed = false;
    const struct cli_option options[] = {
        { "sealed", CLI_FLAG, &sealed, 0, 0, false, "first give up all system calls but those that computing needs" },
    };
    if (!cli_parse(SYNOPSIS, options, 1, argc, argv, &dir, 1, &code))
        return code;
    progress_init(&pr, PROGRESS_JSON, STDOUT_FILENO);
    bool ok = (!sealed || seal_process(&e)) && start_watching(&e) && read_task(dir, &t, &e) && run_task(dir, &t, &pr, &e);
    if (!ok) {
        progress_problem(&pr, &e);
        code = cli_fail(&e);
    }
    json_decref(t.json);
    return code;
}
