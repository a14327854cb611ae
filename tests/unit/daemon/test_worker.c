/*
 * test_worker.c - jobs run by children that behave, crash, hang, flood and lie.
 *
 * This program is all three: the test, the launcher (--launch) and the child (job DIR), so a test
 * needs no other file.
 */
#include "tests/unit/daemon/storage_fixture.h"

#define FAKE_JOB_IS_PART_OF_A_TEST
#include "tests/tools/fake_job.c"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "server/child.h"
#include "server/inspect.h"
#include "server/launcher.h"
#include "server/worker.h"
#include "storage/result.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

struct rig {
    struct fixture *f;
    struct config config;
    struct workers *workers;
    pthread_mutex_t mu;
    pthread_cond_t event;           /* something was committed about some job */
};
static struct rig rig;

/* The address sanitizer maps terabytes; the thread sanitizer starts only without a limit. */
#ifdef __SANITIZE_THREAD__
static const int64_t ADDRESS_SPACE = INT64_MAX;
#else
static const int64_t ADDRESS_SPACE = INT64_C(1) << 50;
#endif

static void on_commit(void *arg, const char *team, const char *job_id)
{
    struct rig *r = arg;
    (void)team, (void)job_id;
    pthread_mutex_lock(&r->mu);
    pthread_cond_broadcast(&r->event);
    pthread_mutex_unlock(&r->mu);
}

static void start_workers(void)
{
    struct err e = { 0 };
    rig.workers = workers_start(&rig.config, rig.f->store, &e);
    if (!rig.workers)
        fail_msg("%s: %s", e.where, e.text);
}

static int setup(void **state)
{
    if (fixture_setup(state) != 0)
        return -1;
    rig = (struct rig){ .f = *state };
    rig.config = (struct config){
        .repquant = "/proc/self/exe", .workers = 1, .threads = 1, .memory = 1 << 24, .address_space = ADDRESS_SPACE,
        .job_seconds = 600, .inspect_seconds = 10, .silence_seconds = 20,
    };
    pthread_mutex_init(&rig.mu, NULL);
    pthread_cond_init(&rig.event, NULL);
    store_watch(rig.f->store, on_commit, &rig);
    return 0;
}

static int teardown(void **state)
{
    workers_stop(rig.workers);
    return fixture_teardown(state);
}

static void queue(const char *script, int max_attempts, char ret[ID_SIZE])
{
    char recipe[1024];
    struct job job;
    struct job_request r = fixture_request(rig.f);
    struct err e = { 0 };
    snprintf(recipe, sizeof recipe, "{\"fake\":\"%s\"}", script);
    r.recipe = recipe;
    r.max_attempts = max_attempts;
    if (!job_insert(rig.f->store, TEAM_LOCAL, &r, &job, &e))
        fail_msg("%s", e.text);
    memcpy(ret, job.id, ID_SIZE);
    job_release(&job);
    if (rig.workers)
        workers_kick(rig.workers);
}

/* Waits until the job fulfils the condition; the caller releases it. */
static struct job wait_until(const char *id, bool (*holds)(const struct job *))
{
    struct timespec until;
    struct job job;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 300;
    pthread_mutex_lock(&rig.mu);
    for (;;) {
        assert_true(job_get(rig.f->store, TEAM_LOCAL, id, &job, NULL));
        if (holds(&job))
            break;
        if (pthread_cond_timedwait(&rig.event, &rig.mu, &until) != 0) {
            pthread_mutex_unlock(&rig.mu);
            fail_msg("%s stays %s", id, job_state_name(job.state));
        }
        job_release(&job);
    }
    pthread_mutex_unlock(&rig.mu);
    return job;
}

static bool has_ended(const struct job *job) { return job_state_terminal(job->state); }
static bool has_progress(const struct job *job) { return job->done > 0; }
static bool is_quantizing(const struct job *job) { return job->stage == STAGE_QUANTIZING; }
static bool is_queued(const struct job *job) { return job->state == JOB_QUEUED; }

static void wants_state(const struct job *job, enum job_state want)
{
    if (job->state != want)
        fail_msg("the job is %s: %s", job_state_name(job->state), job->problem ? job->problem : "");
}

/* Runs the script to its end, which must be this; the caller releases the job. */
static struct job ran(const char *script, int max_attempts, enum job_state state)
{
    char id[ID_SIZE];
    queue(script, max_attempts, id);
    struct job job = wait_until(id, has_ended);
    wants_state(&job, state);
    return job;
}

/* Runs the script to its end and compares the state; the problem, if any, must contain `problem`. */
static void expect(const char *script, int max_attempts, enum job_state state, int attempts, const char *problem)
{
    struct artifact_list arts;
    struct job job = ran(script, max_attempts, state);
    if (job.attempt != attempts)
        fail_msg("%s: %d attempts", script, job.attempt);
    if (problem && (!job.problem || !strstr(job.problem, problem)))
        fail_msg("%s: %s", script, job.problem ? job.problem : "no problem");
    assert_true(artifact_list(rig.f->store, TEAM_LOCAL, job.id, &arts, NULL));
    if (state != JOB_SUCCEEDED && arts.n)
        fail_msg("%s: a %s job has %zu artifacts", script, job_state_name(state), arts.n);
    artifact_list_release(&arts);
    job_release(&job);
}

static bool scratch_empty(void)
{
    char path[300];
    int n = 0;
    snprintf(path, sizeof path, "%s/scratch", rig.f->dir);
    DIR *d = opendir(path);
    for (struct dirent *entry; (entry = readdir(d));)
        n += entry->d_name[0] != '.';
    closedir(d);
    return n == 0;
}

/* ---- children that behave ---- */

static void a_child_that_ends_well_leaves_its_results(void **state)
{
    (void)state;
    char id[ID_SIZE], text[16] = "";
    struct artifact a;
    struct layer_list layers;
    int fd;
    uint64_t size;
    start_workers();
    queue("stage calibrating;progress 1 4;stage quantizing;layer 3;metric top1 0.8 0.7;warning w;progress 4 4;"
          "result model.onnx bytes;result report.json {}", 0, id);
    struct job job = wait_until(id, has_ended);
    wants_state(&job, JOB_SUCCEEDED);
    assert_int_equal(job.done, 4);
    assert_int_equal(job.warnings, 1);
    assert_non_null(strstr(job.summary, "\"bytes_after\":5"));
    assert_non_null(strstr(job.engine, "\"threads\":1"));
    job_release(&job);
    assert_true(artifact_find(rig.f->store, TEAM_LOCAL, id, "model.onnx", &a, NULL));
    assert_string_equal(a.media_type, "application/octet-stream");
    assert_true(blob_open(rig.f->store, TEAM_LOCAL, a.digest, true, &fd, &size, NULL));
    assert_int_equal(read(fd, text, sizeof text - 1), 5);
    assert_string_equal(text, "bytes");
    close(fd);
    assert_true(layer_list(rig.f->store, TEAM_LOCAL, id, LAYER_INDEX, false, &layers, NULL));
    assert_int_equal(layers.n, 3);
    assert_null(strstr(layers.items[0].row, "event"));
    layer_list_release(&layers);
    workers_stop(rig.workers);
    rig.workers = NULL;
    assert_true(scratch_empty());
}

static void what_the_child_says_is_wrong_is_the_jobs_problem(void **state)
{
    (void)state;
    start_workers();
    expect("problem model.unsupported_op no op_Foo", 0, JOB_FAILED, 1, "model.unsupported_op");
    expect("problem model.unsupported_op no op_Foo", 0, JOB_FAILED, 1, "op_Foo");
    expect("problem resource.memory yes more", 2, JOB_FAILED, 2, "resource.memory");
    expect("problem invented.code no text", 0, JOB_FAILED, 1, "internal.bug");
}

static void the_launcher_leaves_the_child_nothing_but_its_task(void **state)
{
    (void)state;
    char id[ID_SIZE];
    struct artifact a;
    struct blob b;
    int fd;
    uint64_t size;
    char *text;
    size_t n;
    setenv("SECRET_OF_THE_DAEMON", "x", 1);
    setenv("OPENBLAS_CORETYPE", "Haswell", 1);
    struct rlimit core;
    assert_int_equal(getrlimit(RLIMIT_CORE, &core), 0);
    core.rlim_cur = core.rlim_max;                      /* what is not there cannot be seen to be taken away */
    assert_int_equal(setrlimit(RLIMIT_CORE, &core), 0);
    int leak = open("/etc/passwd", O_RDONLY);           /* without O_CLOEXEC, as a library might */
    assert_int_equal(fcntl(leak, F_DUPFD, 300), 300);
    start_workers();
    queue("facts", 0, id);
    struct job job = wait_until(id, has_ended);
    wants_state(&job, JOB_SUCCEEDED);
    job_release(&job);
    close(leak);
    close(300);
    assert_true(artifact_find(rig.f->store, TEAM_LOCAL, id, "result.json", &a, NULL));
    assert_true(blob_get(rig.f->store, TEAM_LOCAL, a.digest, &b, NULL));
    assert_true(blob_open(rig.f->store, TEAM_LOCAL, a.digest, false, &fd, &size, NULL));
    assert_true(io_read_all(fd, "facts", 1 << 20, &text, &n, NULL));
    close(fd);
    json_t *facts = json_parse(text, n, 8, ERR_BUG, NULL);
    const json_t *env = json_object_get(facts, "environment"), *fds = json_object_get(facts, "descriptors");
    for (size_t i = 0; i < json_array_size(env); i++)
        if (strncmp(json_string_value(json_array_get(env, i)), "OPENBLAS_", 9) != 0)
            fail_msg("the child sees %s", json_string_value(json_array_get(env, i)));
    assert_true(json_array_size(env) >= 1);
    assert_int_equal(json_array_size(fds), LAUNCH_FIRST_INPUT_FD + 2);      /* 0 to 3, the model, the data set */
    assert_true(json_is_true(json_object_get(facts, "no_new_privileges")));
    assert_int_equal(json_integer_value(json_object_get(facts, "core")), 0);
    assert_int_equal(json_integer_value(json_object_get(facts, "files")), LAUNCH_FIRST_INPUT_FD + 2 + 64);
    assert_int_equal(json_integer_value(json_object_get(facts, "nice")), 10);
    assert_int_equal(json_integer_value(json_object_get(facts, "oom_score_adj")), 800);     /* the kernel takes it before the daemon */
    if (ADDRESS_SPACE != INT64_MAX)
        assert_int_equal(json_integer_value(json_object_get(facts, "address_space")), ADDRESS_SPACE);
    assert_int_equal(json_integer_value(json_object_get(facts, "leads_session")), 1);
    json_decref(facts);
    free(text);
}

static void metrics_and_warnings_without_end_are_cut(void **state)
{
    (void)state;
    start_workers();
    struct job job = ran("metric m 1 0.5 70;metric a-name-of-thirty-two-characters- 1 1;warning w 1010;result model.onnx bytes", 0, JOB_SUCCEEDED);
    json_t *summary = json_parse(job.summary, strlen(job.summary), 8, ERR_BUG, NULL);
    const json_t *metrics = json_object_get(summary, "metrics");
    assert_int_equal(json_object_size(metrics), 64);
    assert_non_null(json_object_get(metrics, "m63"));
    assert_null(json_object_get(metrics, "m64"));
    assert_int_equal(job.warnings, 1000);
    json_decref(summary);
    job_release(&job);
    job = ran("metric a-name-of-thirty-two-characters- 1 1;metric a-name-of-thirty-one-characters 1 1;result model.onnx bytes", 0, JOB_SUCCEEDED);
    assert_null(strstr(job.summary, "thirty-two"));
    assert_non_null(strstr(job.summary, "thirty-one"));
    job_release(&job);
}

/* ---- children that do not ---- */

static void a_child_that_crashes_is_tried_again_and_then_the_job_fails(void **state)
{
    (void)state;
    start_workers();
    expect("crash", 0, JOB_FAILED, JOB_MAX_ATTEMPTS, "signal 11");
    expect("abort", 1, JOB_FAILED, 1, "signal 6");
    expect("exit 4", 1, JOB_FAILED, 1, "status 4");
    expect("quit", 1, JOB_FAILED, 1, "without a result");
    expect("result model.onnx x", 1, JOB_SUCCEEDED, 1, NULL);              /* and the worker still works */
}

static void an_attempt_goes_on_from_the_journal_of_the_lost_one(void **state)
{
    (void)state;
    char id[ID_SIZE];
    start_workers();
    /* Each attempt appends; the second sees what the first wrote, the third what both wrote. */
    struct job job = ran("journal ab;crash", 0, JOB_FAILED);
    job_release(&job);
    workers_stop(rig.workers);
    rig.workers = NULL;
    assert_true(scratch_empty());

    queue("journal ab;expect-journal abab;result model.onnx x", 0, id);
    start_workers();
    job = wait_until(id, has_ended);
    wants_state(&job, JOB_SUCCEEDED);
    assert_int_equal(job.attempt, 2);                   /* the first found only its own */
    job_release(&job);
}

static void a_child_that_misuses_the_event_pipe_is_ended(void **state)
{
    (void)state;
    start_workers();
    expect("flood", 1, JOB_FAILED, 1, "without end");
    expect("longline", 1, JOB_FAILED, 1, "does not end");
    expect("garbage", 1, JOB_FAILED, 1, "no event");
    expect("bulk", 1, JOB_FAILED, 1, "more events than are kept");
}

/* What it says at its end is bounded, too. */
static void a_child_that_says_too_much_leaves_no_more_than_there_is_room_for(void **state)
{
    (void)state;
    enum { ROOM = CHILD_MAX_FILES, NAME = CHILD_FILE_NAME_SIZE };
    char script[32 * (ROOM + 1) + 2 * NAME] = "";
    start_workers();
    for (int n = 0; n < ROOM; n++)
        snprintf(script + strlen(script), 32, "result r%d x;", n);
    expect(script, 1, JOB_SUCCEEDED, 1, NULL);
    snprintf(script + strlen(script), 32, "result more x");
    expect(script, 1, JOB_FAILED, 1, "too many results");
    snprintf(script, sizeof script, "result %0*d x", NAME - 1, 1);
    expect(script, 1, JOB_SUCCEEDED, 1, NULL);
    snprintf(script, sizeof script, "result %0*d x", NAME, 1);
    expect(script, 1, JOB_FAILED, 1, "too long a name");
    struct job job = ran("warning w 1003", 1, JOB_SUCCEEDED);
    assert_int_equal(job.warnings, 1000);
    job_release(&job);
}

static void a_silent_child_and_a_slow_one_are_ended(void **state)
{
    (void)state;
    rig.config.silence_seconds = 1;
    start_workers();
    expect("stage preparing;hang", 1, JOB_FAILED, 1, "hung");
    workers_stop(rig.workers);
    rig.config.job_seconds = 1;
    start_workers();
    expect("stubborn", 3, JOB_FAILED, 1, "resource.deadline");
}

static bool any_event(void *arg, const struct child_event *ev, struct err *e)
{
    (void)arg, (void)ev, (void)e;
    return true;
}

/* The daemon's clock strikes first for a job as it is; this is the kernel's, for a child alone. */
static void a_child_is_told_apart_that_used_up_its_processor_time(void **state)
{
    (void)state;
    struct stopper stopper;
    struct child_outcome out;
    struct err e = { 0 };
    static const char task[] = "{\"recipe\":{\"fake\":\"try loop\"}}";
    assert_true(io_save(rig.f->dir, "job.json", task, sizeof task - 1, &e));
    assert_true(stopper_init(&stopper, &e));
    struct child_spec spec = {
        .launch = { .program = "/proc/self/exe", .address_space = ADDRESS_SPACE, .cpu_seconds = 1, .file_size = 1 << 20 },
        .scratch = open(rig.f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .deadline_us = 60 * 1000000, .silence_us = 60 * 1000000, .event = any_event,
    };
    assert_true(child_run(&spec, &stopper, &out, &e));
    assert_int_equal(out.end, CHILD_LOST);
    assert_int_equal(out.problem.code, ERR_DEADLINE);
    assert_non_null(strstr(out.problem.text, "processor time"));
    assert_false(out.retryable);
    child_outcome_release(&out);
    stopper_release(&stopper);
    close(spec.scratch);
}

static void only_plain_files_become_artifacts(void **state)
{
    (void)state;
    start_workers();
    expect("symlink model.onnx /etc/passwd", 1, JOB_FAILED, 1, NULL);
    expect("symlink model.onnx job.json", 1, JOB_FAILED, 1, NULL);
    expect("hardlink model.onnx", 1, JOB_FAILED, 1, "internal.bug");
    expect("fifo model.onnx", 1, JOB_FAILED, 1, "internal.bug");
    expect("sparse model.onnx 4000000000", 1, JOB_FAILED, 1, "resource.disk");
}

static void what_is_done_counts_even_if_the_child_does_not_end(void **state)
{
    (void)state;
    start_workers();
    expect("result model.onnx x;linger", 1, JOB_SUCCEEDED, 1, NULL);
}

static void a_grandchild_does_not_keep_the_worker_or_survive(void **state)
{
    (void)state;
    int status;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);        /* orphans become ours, so we can see them end */
    start_workers();
    int64_t began = clock_mono_us();
    expect("orphan 600000;result model.onnx x", 1, JOB_SUCCEEDED, 1, NULL);
    assert_true(waitpid(-1, &status, 0) > 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_true(clock_mono_us() - began < 10 * 1000000);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
}

static void a_blob_that_rotted_never_reaches_a_child(void **state)
{
    (void)state;
    char path[600];
    snprintf(path, sizeof path, "%s/blobs/2c/%s", rig.f->dir, FIXTURE_DIGEST + 7);
    assert_int_equal(chmod(path, 0600), 0);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("hellO", file);
    fclose(file);
    start_workers();
    expect("result model.onnx x", 3, JOB_FAILED, 1, "storage.corrupt");
}

/* ---- ends that somebody asks for ---- */

static void cancel_is_terminal_within_two_seconds(const char *script, bool (*ready)(const struct job *))
{
    char id[ID_SIZE];
    struct job job;
    queue(script, 0, id);
    job = wait_until(id, ready);
    job_release(&job);
    int64_t began = clock_mono_us();
    assert_true(job_cancel(rig.f->store, TEAM_LOCAL, id, NULL, NULL, &job, NULL));
    assert_int_equal(job.state, JOB_CANCELING);
    job_release(&job);
    workers_cancel(rig.workers, id);
    job = wait_until(id, has_ended);
    int64_t took = clock_mono_us() - began;
    wants_state(&job, JOB_CANCELED);
    job_release(&job);
    if (took > 2000000)
        fail_msg("%s: canceled after %lld ms", script, (long long)took / 1000);
}

static void a_canceled_job_is_terminal_within_two_seconds(void **state)
{
    (void)state;
    start_workers();
    cancel_is_terminal_within_two_seconds("stage quantizing;sleep 60000", is_quantizing);  /* it listens */
    cancel_is_terminal_within_two_seconds("stubborn", has_progress);                       /* it does not */
    cancel_is_terminal_within_two_seconds("stage quantizing;hang", is_quantizing);
}

/* The row says canceling, and nobody has told the worker: its first heartbeat does. */
static void a_cancellation_before_the_child_starts_is_not_lost(void **state)
{
    (void)state;
    char id[ID_SIZE];
    struct job job;
    struct claim c;
    struct err e = { 0 };
    queue("stubborn", 0, id);
    assert_true(run_claim(rig.f->store, &(struct claim_terms){ .worker = "gone", .lease_us = -1 }, &c, &job, &e));
    job_release(&job);
    assert_true(job_cancel(rig.f->store, TEAM_LOCAL, id, NULL, NULL, &job, NULL));
    job_release(&job);
    start_workers();            /* finds the lease expired, and the job canceling */
    job = wait_until(id, has_ended);
    wants_state(&job, JOB_CANCELED);
    job_release(&job);
}

static void a_shutdown_puts_the_running_job_back_with_its_journal(void **state)
{
    (void)state;
    char id[ID_SIZE];
    queue("journal ab;stage quantizing;sleep 60000", 0, id);
    start_workers();
    struct job job = wait_until(id, is_quantizing);
    job_release(&job);
    int64_t began = clock_mono_us();
    workers_stop(rig.workers);
    rig.workers = NULL;
    assert_true(clock_mono_us() - began < 2 * 1000000);
    job = wait_until(id, is_queued);
    assert_int_equal(job.attempt, 0);
    job_release(&job);
    assert_false(scratch_empty());
}

static void an_attempt_that_became_stale_is_killed_and_says_nothing(void **state)
{
    (void)state;
    char id[ID_SIZE];
    struct job job;
    struct claim c;
    struct err e = { 0 };
    queue("stage quantizing;stubborn", 0, id);
    start_workers();
    job = wait_until(id, has_progress);
    struct claim held = { .token = job.claim_token };
    memcpy(held.job, job.id, ID_SIZE);
    memcpy(held.team, job.team, TEAM_SIZE);
    job_release(&job);
    /* Somebody takes the job from the worker, as recovery of an expired lease would. */
    enum job_state to;
    assert_true(run_lost(rig.f->store, &held, "{}", &to, NULL));
    assert_true(run_claim(rig.f->store, &(struct claim_terms){ .worker = "other", .lease_us = 60 * 1000000 }, &c, &job, &e));
    assert_string_equal(c.job, id);
    job_release(&job);
    workers_stop(rig.workers);                          /* joins: the stale attempt is over */
    rig.workers = NULL;
    assert_true(job_get(rig.f->store, TEAM_LOCAL, id, &job, NULL));
    wants_state(&job, JOB_RUNNING);
    assert_string_equal(job.worker, "other");
    job_release(&job);
}

static void jobs_queued_from_many_threads_all_run(void **state)
{
    (void)state;
    enum { JOBS = 12 };
    char ids[JOBS][ID_SIZE];
    rig.config.workers = 3;
    start_workers();
    for (int i = 0; i < JOBS; i++)
        queue(i % 4 == 3 ? "exit 1" : "result model.onnx x", 1, ids[i]);
    for (int i = 0; i < JOBS; i++) {
        struct job job = wait_until(ids[i], has_ended);
        wants_state(&job, i % 4 == 3 ? JOB_FAILED : JOB_SUCCEEDED);
        job_release(&job);
    }
}

/* ---- looking into uploads ---- */

/* job: as of a wish, or NULL. */
static bool inspect_job(struct inspector *i, const char *text, json_t *job, char **ret, struct err *e)
{
    struct blob b = fixture_blob(rig.f, TEAM_LOCAL, text);
    struct asset_file file = { .path = "model.onnx" };
    memcpy(file.digest, b.digest, sizeof b.digest);
    return inspect_wait(i, &(struct inspect_wish){ .team = TEAM_LOCAL, .kind = ASSET_MODEL, .files = &file, .n = 1, .job = job }, ret, e);
}

static bool inspect_text(struct inspector *i, const char *text, char **ret, struct err *e) { return inspect_job(i, text, NULL, ret, e); }

static void an_upload_is_looked_into_by_a_child(void **state)
{
    (void)state;
    char *json = NULL;
    struct err e = { 0 };
    rig.config.inspect_seconds = 2;
    struct inspector *i = inspector_start(&rig.config, rig.f->store, &e);
    assert_non_null(i);
    assert_true(inspect_text(i, "#inspect result result.json {\"ops\":3}", &json, &e));
    assert_string_equal(json, "{\"ops\":3}");
    free(json);
    static const struct { const char *script; enum err_code code; } bad[] = {
        { "#inspect problem model.invalid no cycle", ERR_MODEL_INVALID }, { "#inspect crash", ERR_WORKER_LOST },
        { "#inspect result result.json [1]", ERR_BUG }, { "#inspect result result.json {\"a\":1,\"a\":2}", ERR_BUG },
        { "#inspect symlink result.json job.json", ERR_IO }, { "#inspect done", ERR_NO_FILE }, { "#inspect hang", ERR_DEADLINE },
    };
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        e = (struct err){ 0 };
        if (inspect_text(i, bad[k].script, &json, &e))
            fail_msg("%s: accepted", bad[k].script);
        if (e.code != bad[k].code)
            fail_msg("%s: %s %s", bad[k].script, err_slug(e.code), e.text);
    }
    inspector_stop(i);
    assert_true(scratch_empty());
}

/* A sanitizer sees whether it is freed once, and by one thread. */
static void the_document_of_a_wish_is_the_inspectors(void **state)
{
    (void)state;
    char *json = NULL;
    struct err e = { 0 };
    struct inspector *i = inspector_start(&rig.config, rig.f->store, &e);
    assert_non_null(i);
    for (int k = 0; k < 5; k++) {
        if (!inspect_job(i, "#inspect result result.json {\"ops\":3}", json_pack("{s:{s:i}}", "recipe", "name", k), &json, &e))
            fail_msg("%s: %s", e.where, e.text);
        assert_string_equal(json, "{\"ops\":3}");
        free(json);
    }
    inspector_drain(i);
    assert_false(inspect_job(i, "#inspect done", json_pack("{s:{}}", "recipe"), &json, &e));
    assert_int_equal(e.code, ERR_DRAINING);
    inspector_stop(i);
}

struct answers { atomic_int n, draining; };
static void count_answer(void *arg, char *json, const struct err *e)
{
    struct answers *a = arg;
    free(json);
    a->n++;
    a->draining += e->code == ERR_DRAINING;
}

static void every_accepted_inspection_is_answered_once_even_at_shutdown(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct answers answers = { 0 };
    struct blob b = fixture_blob(rig.f, TEAM_LOCAL, "#inspect sleep 60000");
    struct asset_file file = { .path = "model.onnx" };
    memcpy(file.digest, b.digest, sizeof b.digest);
    struct inspector *i = inspector_start(&rig.config, rig.f->store, &e);
    int accepted = 0;
    struct inspect_wish wish = { .team = TEAM_LOCAL, .kind = ASSET_MODEL, .files = &file, .n = 1 };
    while (inspect_submit(i, &wish, count_answer, &answers, &e))
        accepted++;
    assert_int_equal(e.code, ERR_BUSY);
    assert_true(accepted >= 32);
    inspector_stop(i);
    assert_int_equal(answers.n, accepted);
    assert_int_equal(answers.draining, accepted);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        T(a_child_that_ends_well_leaves_its_results),
        T(what_the_child_says_is_wrong_is_the_jobs_problem),
        T(the_launcher_leaves_the_child_nothing_but_its_task),
        T(metrics_and_warnings_without_end_are_cut),
        T(a_child_that_crashes_is_tried_again_and_then_the_job_fails),
        T(an_attempt_goes_on_from_the_journal_of_the_lost_one),
        T(a_child_that_misuses_the_event_pipe_is_ended),
        T(a_child_that_says_too_much_leaves_no_more_than_there_is_room_for),
        T(a_silent_child_and_a_slow_one_are_ended),
        T(a_child_is_told_apart_that_used_up_its_processor_time),
        T(only_plain_files_become_artifacts),
        T(what_is_done_counts_even_if_the_child_does_not_end),
        T(a_grandchild_does_not_keep_the_worker_or_survive),
        T(a_blob_that_rotted_never_reaches_a_child),
        T(a_canceled_job_is_terminal_within_two_seconds),
        T(a_cancellation_before_the_child_starts_is_not_lost),
        T(a_shutdown_puts_the_running_job_back_with_its_journal),
        T(an_attempt_that_became_stale_is_killed_and_says_nothing),
        T(jobs_queued_from_many_threads_all_run),
        T(an_upload_is_looked_into_by_a_child),
        T(the_document_of_a_wish_is_the_inspectors),
        T(every_accepted_inspection_is_answered_once_even_at_shutdown),
    };
    if (launcher_called(argc, argv))
        return launcher_main(argc, argv);
    if (argc >= 3 && strcmp(argv[1], "job") == 0)
        return fake_job_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
