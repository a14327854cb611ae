/*
 * test_cgroup.c - bounds of control groups, in plain folders that stand in for the kernel's.
 *
 * The kernel makes a group's files with the group and drops them with it; here sys.mkdirat and sys.unlinkat do.  This program is the
 * launcher and the child too, as in test_worker.c.  What a real kernel does is tests/api/test_cgroup.py's.
 */
#include "tests/unit/daemon/storage_fixture.h"

#define FAKE_JOB_IS_PART_OF_A_TEST
#include "tests/tools/fake_job.c"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "server/cgroup.h"
#include "server/child.h"
#include "server/launcher.h"
#include "server/task.h"
#include "server/worker.h"

#include <sched.h>
#include <sys/xattr.h>

enum { TEXT = 64 };

/* What stands in a group's files when it is made, and what does when it is removed.  NULL: there is no such file. */
static struct file { const char *name, *first; char last[TEXT]; } files[] = {
    { "cgroup.procs", "", "" }, { "cgroup.kill", "", "" }, { "cgroup.events", "populated 0\n", "" }, { "memory.max", "max", "" },
    { "memory.swap.max", "max", "" }, { "memory.oom.group", "0", "" }, { "memory.events", "oom 0\noom_kill 0\n", "" }, { "pids.max", "max", "" },
    { "pids.events", "max 0\n", "" },
};
enum { FILES = sizeof files / sizeof files[0] };
static int removed;

static struct file *file(const char *name)
{
    for (int i = 0; i < FILES; i++)
        if (strcmp(files[i].name, name) == 0)
            return &files[i];
    fail_msg("no file %s", name);
    return NULL;
}

static void write_text(int dir, const char *name, const char *text)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && io_write_all(fd, text, strlen(text)) == 0);
    close(fd);
}

static int make_with_files(int at, const char *name, mode_t mode)
{
    int rc = mkdirat(at, name, mode), dir = rc == 0 ? openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    for (int i = 0; dir >= 0 && i < FILES; i++)
        if (files[i].first)
            write_text(dir, files[i].name, files[i].first);
    if (dir >= 0)
        close(dir);
    return rc;
}

static int remove_with_files(int at, const char *name, int flags)
{
    int dir = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; dir >= 0 && i < FILES; i++) {
        int fd = openat(dir, files[i].name, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, files[i].last, TEXT - 1) : 0;
        files[i].last[n < 0 ? 0 : n] = '\0';
        if (fd >= 0)
            close(fd);
        unlinkat(dir, files[i].name, 0);
    }
    if (dir >= 0)
        close(dir);
    removed++;
    return unlinkat(at, name, flags);
}

static struct cgroups groups;
static const struct cgroup_bounds bounds = { .memory = INT64_C(3) << 30, .tasks = 18 };
static char folder[300];

/* The folder, offering `controllers`. */
static bool open_folder(struct fixture *f, const char *controllers, struct err *e)
{
    snprintf(folder, sizeof folder, "%s/groups", f->dir);
    assert_true(mkdir(folder, 0700) == 0 || errno == EEXIST);
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    write_text(dir, "cgroup.controllers", controllers);
    write_text(dir, "cgroup.subtree_control", "");
    close(dir);
    return cgroups_open(folder, &groups, e);
}

static void opened(struct fixture *f, const char *controllers)
{
    struct err e = { 0 };
    if (!open_folder(f, controllers, &e))
        fail_msg("%s: %s", e.where, e.text);
}

static int setup(void **state)
{
    for (int i = 0; i < FILES; i++)
        files[i].last[0] = '\0';
    removed = 0;
    groups.dir = -1;
    sys.mkdirat = make_with_files;
    sys.unlinkat = remove_with_files;
    return fixture_setup(state);
}

static int teardown(void **state)
{
    file("memory.events")->first = "oom 0\noom_kill 0\n";
    file("memory.swap.max")->first = "max";
    file("memory.max")->first = "max";
    file("pids.events")->first = "max 0\n";
    cgroups_close(&groups);
    sys.mkdirat = mkdirat;
    sys.unlinkat = unlinkat;
    return fixture_teardown(state);
}

/* What stands in a file of the folder. */
static const char *in_folder(const char *name)
{
    static char text[TEXT];
    int fd = openat(groups.dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    assert_true(n >= 0);
    close(fd);
    text[n] = '\0';
    return text;
}

/* ---- the folder ---- */

static void what_is_offered_is_handed_down_and_told(void **state)
{
    static const struct { const char *offered, *used[3]; } rows[] = {
        { "cpuset cpu io memory hugetlb pids\n", { "memory", "pids" } }, { "pids\n", { "pids" } }, { "memory", { "memory" } },
        { "memoryx xpids\n", { NULL } }, { "\n", { NULL } },
    };
    assert_null(cgroups_used(NULL));
    assert_null(cgroups_used(&groups));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        opened(*state, rows[i].offered);
        const char *const *used = cgroups_used(&groups);
        int n = 0;
        for (; rows[i].used[n]; n++)
            assert_string_equal(used[n], rows[i].used[n]);
        assert_null(used[n]);
        /* A plain file keeps what was written last, in an open of its own. */
        const char *last = n ? rows[i].used[n - 1] : "";
        if (n)
            assert_non_null(strstr(in_folder("cgroup.subtree_control"), last));
        else
            assert_string_equal(in_folder("cgroup.subtree_control"), "");
        assert_string_equal(in_folder("daemon/cgroup.procs"), "0");
        cgroups_close(&groups);
    }
}

static void a_folder_has_one_daemon(void **state)
{
    struct cgroups other;
    struct err e = { 0 };
    opened(*state, "memory pids");
    assert_false(cgroups_open(folder, &other, &e));
    assert_int_equal(e.code, ERR_CONFIG);
    assert_non_null(strstr(e.text, "another repquantd"));
    cgroups_close(&groups);
    assert_true(cgroups_open(folder, &groups, NULL));
}

static void a_folder_that_cannot_be_used_is_named_with_what_is_wrong(void **state)
{
    struct fixture *f = *state;
    static const struct { const char *path, *why; } rows[] = {
        { "/nowhere", "/nowhere: the folder" }, { "/proc/self", "cgroup.controllers" }, { "on", "\"on\" is not auto, off" }, { "", "\"\" is not auto" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = { 0 };
        assert_false(cgroups_open(rows[i].path, &groups, &e));
        assert_string_equal(e.where, "cgroup");
        if (e.code != ERR_CONFIG || !strstr(e.text, rows[i].why))
            fail_msg("%s: %s", rows[i].path, e.text);
        assert_null(cgroups_used(&groups));
    }
    struct err e = { 0 };
    opened(f, "memory");
    assert_int_equal(unlinkat(groups.dir, "cgroup.subtree_control", 0), 0);
    cgroups_close(&groups);
    assert_false(cgroups_open(folder, &groups, &e));
    assert_non_null(strstr(e.text, "cgroup.subtree_control"));
    assert_true(cgroups_open("off", &groups, NULL));
    assert_null(cgroups_used(&groups));
}

static void what_an_earlier_life_left_is_ended_and_nothing_else(void **state)
{
    opened(*state, "memory");
    int at = groups.dir;
    assert_int_equal(make_with_files(at, "job-7", 0700), 0);
    assert_int_equal(make_with_files(at, "other", 0700), 0);
    write_text(at, "job-file", "");
    cgroups_close(&groups);
    opened(*state, "memory");
    assert_int_equal(removed, 1);
    assert_string_equal(file("cgroup.kill")->last, "1");
    assert_int_equal(faccessat(groups.dir, "job-7", F_OK, 0), -1);
    assert_int_equal(faccessat(groups.dir, "other", F_OK, 0), 0);
    assert_int_equal(remove_with_files(groups.dir, "other", AT_REMOVEDIR), 0);
}

static void our_own_group_is_taken_only_if_it_is_marked(void **state)
{
    struct fixture *f = *state;
    char list[300], path[300], found[300];
    snprintf(list, sizeof list, "%s/list", f->dir);
    snprintf(path, sizeof path, "%s/unit.service", f->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    write_text(AT_FDCWD, list, "5:devices:/else\n1:name=systemd:/else\n0::/unit.service\n");
    assert_false(cgroups_delegated(list, f->dir, found, sizeof found));
    if (setxattr(path, "user.delegate", "1", 1, 0) != 0 && setxattr(path, "trusted.delegate", "1", 1, 0) != 0)
        skip();                                         /* neither in this file system for this user */
    assert_true(cgroups_delegated(list, f->dir, found, sizeof found));
    assert_string_equal(found, path);
    assert_false(cgroups_delegated(list, f->dir, found, 10));
    write_text(AT_FDCWD, list, "5:devices:/unit.service\n");
    assert_false(cgroups_delegated(list, f->dir, found, sizeof found));
    write_text(AT_FDCWD, list, "0::/unit.service\n");
    if (setxattr(path, "user.delegate", "0", 1, 0) == 0 && removexattr(path, "trusted.delegate") != 0)
        assert_false(cgroups_delegated(list, f->dir, found, sizeof found));
    assert_int_equal(rmdir(path), 0);
}

/* ---- one group ---- */

static void make_and_end(struct cgroup_events *ret)
{
    struct cgroup g;
    struct err e = { 0 };
    if (!cgroup_make(&groups, &bounds, &g, &e))
        fail_msg("%s: %s", e.where, e.text);
    assert_int_equal(strncmp(g.name, "job-", 4), 0);
    cgroup_end(&groups, &g, ret);
    assert_int_equal(g.dir, -1);
    assert_int_equal(faccessat(groups.dir, g.name, F_OK, 0), -1);
}

static void a_group_has_the_bounds_of_the_controllers_there_are(void **state)
{
    struct cgroup_events told;
    opened(*state, "memory pids");
    make_and_end(&told);
    assert_string_equal(file("memory.max")->last, "3221225472");
    assert_string_equal(file("memory.swap.max")->last, "0ax");      /* a plain file keeps what was behind */
    assert_string_equal(file("memory.oom.group")->last, "1");
    assert_string_equal(file("pids.max")->last, "18x");
    assert_string_equal(file("cgroup.kill")->last, "1");
    assert_false(told.memory || told.tasks);
    cgroups_close(&groups);
    opened(*state, "pids");
    make_and_end(&told);
    assert_string_equal(file("memory.max")->last, "max");
    assert_string_equal(file("pids.max")->last, "18x");
}

static void a_kernel_without_swap_accounting_is_fine_and_one_without_the_bound_is_not(void **state)
{
    struct cgroup_events told;
    struct cgroup g;
    struct err e = { 0 };
    opened(*state, "memory pids");
    file("memory.swap.max")->first = NULL;
    make_and_end(&told);
    file("memory.max")->first = NULL;
    assert_false(cgroup_make(&groups, &bounds, &g, &e));
    assert_string_equal(e.where, "memory.max");
    assert_int_equal(removed, 2);
    assert_int_equal(g.dir, -1);
    assert_int_equal(g.procs, -1);
}

static void a_name_that_is_taken_is_passed_over(void **state)
{
    struct cgroup first, second;
    char taken[TEXT];
    opened(*state, "memory");
    assert_true(cgroup_make(&groups, &bounds, &first, NULL));
    snprintf(taken, sizeof taken, "job-%ld", strtol(first.name + 4, NULL, 10) + 1);
    assert_int_equal(mkdirat(groups.dir, taken, 0700), 0);
    assert_true(cgroup_make(&groups, &bounds, &second, NULL));
    assert_string_not_equal(second.name, taken);
    struct cgroup_events told;
    cgroup_end(&groups, &first, &told);
    cgroup_end(&groups, &second, &told);
    assert_int_equal(faccessat(groups.dir, taken, F_OK, 0), 0);
}

static void what_a_child_may_have_grows_with_what_it_is_given(void **state)
{
    (void)state;
    static const int64_t GIB = INT64_C(1) << 30;
    struct config c = { .memory = GIB };
    struct task t = { .bytes = (uint64_t)GIB / 4 };
    struct cgroup_bounds few = task_bounds(&t, &c, 1), many = task_bounds(&t, &c, 8);
    assert_true(few.memory > 4 * GIB && few.memory < 5 * GIB);
    assert_true(few.memory < task_launch(&t, &c, "", 1, 1).address_space);
    assert_true(few.tasks >= 3 && many.tasks == few.tasks + 7 && many.memory > few.memory);
    t.foreseen = 10 * GIB;
    assert_true(task_bounds(&t, &c, 1).memory == 20 * GIB);
}

/* ---- a child in one ---- */

static bool ignore_event(void *arg, const struct child_event *event, struct err *e)
{
    (void)arg, (void)event, (void)e;
    return true;
}

static void run_child(struct fixture *f, const char *script, struct child_outcome *ret)
{
    char dir[300], text[300];
    struct stopper stopper;
    struct err e = { 0 };
    snprintf(dir, sizeof dir, "%s/job", f->dir);
    snprintf(text, sizeof text, "{\"type\":\"quantize\",\"recipe\":{\"fake\":\"%s\"}}", script);
    assert_true(mkdir(dir, 0700) == 0 || errno == EEXIST);
    assert_true(io_save(dir, "job.json", text, strlen(text), &e));
    struct child_spec spec = {
        .launch = { .program = "/proc/self/exe", .address_space = INT64_MAX, .cpu_seconds = 60, .file_size = 1 << 20 },
        .scratch = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .cgroups = &groups, .bounds = bounds,
        .deadline_us = 20000000, .silence_us = 20000000, .event = ignore_event,
    };
    assert_true(stopper_init(&stopper, &e));
    if (!child_run(&spec, &stopper, ret, &e))
        fail_msg("%s: %s", e.where, e.text);
    stopper_release(&stopper);
    close(spec.scratch);
}

static void a_child_enters_its_group_and_keeps_no_way_to_it(void **state)
{
    struct child_outcome out;
    opened(*state, "memory pids");
    run_child(*state, "facts", &out);
    assert_int_equal(out.end, CHILD_DONE);
    assert_string_equal(file("cgroup.procs")->last, "0");
    char path[300];
    json_error_t error;
    snprintf(path, sizeof path, "%s/job/result.json", ((struct fixture *)*state)->dir);
    json_t *facts = json_load_file(path, 0, &error);
    assert_int_equal(json_array_size(json_object_get(facts, "descriptors")), LAUNCH_FIRST_INPUT_FD);
    json_decref(facts);
    child_outcome_release(&out);
}

static void a_childs_end_is_told_by_what_its_group_counted(void **state)
{
    static const struct { const char *script, *memory, *pids; enum err_code code; bool retryable; const char *words; } rows[] = {
        { "killed", "low 0\noom 1\noom_kill 1\noom_group_kill 1\n", "max 0\n", ERR_MEMORY_LIMIT, false, "went over the 3221225472 bytes" },
        { "killed", "oom 0\noom_kill 1\n", "max 0\n", ERR_WORKER_LOST, true, "signal 9" },      /* the machine's need, not its own */
        { "killed", "oom 3\noom_kill 0\n", "max 0\n", ERR_WORKER_LOST, true, "signal 9" },
        { "killed", "oom 0\noom_kill 0\n", "max 0\n", ERR_WORKER_LOST, true, "signal 9" },
        { "crash", "oom 1\noom_kill 1\n", "max 0\n", ERR_WORKER_LOST, true, "signal 11" },
        { "killed", "oom 0\noom_kill 0\n", "max 2\n", ERR_WORKER_LOST, true, "signal 9" },
        { "exit 3", "oom 0\noom_kill 0\n", "max 2\n", ERR_WORKER_LOST, false, "more than the 18 threads" },
        { "exit 3", "oom 0\noom_kill 0\n", "max 0\n", ERR_WORKER_LOST, true, "status 3" },
        { "problem resource.memory yes more", "oom 1\noom_kill 1\n", "max 2\n", ERR_MEMORY, true, "more" },
    };
    opened(*state, "memory pids");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct child_outcome out;
        file("memory.events")->first = rows[i].memory;
        file("pids.events")->first = rows[i].pids;
        run_child(*state, rows[i].script, &out);
        if (out.problem.code != rows[i].code || out.retryable != rows[i].retryable || !strstr(out.problem.text, rows[i].words))
            fail_msg("row %zu: %s: %s", i, err_slug(out.problem.code), out.problem.text);
        child_outcome_release(&out);
    }
    assert_int_equal(removed, sizeof rows / sizeof rows[0]);
}

/* A job that was let in for what it is foreseen to take is not ended for taking it. */
static void a_job_may_have_twice_what_it_was_estimated_to_take(void **state)
{
    struct fixture *f = *state;
    struct err e = { 0 };
    struct job job;
    struct config c = { .repquant = "/proc/self/exe", .workers = 1, .threads = 1, .memory = 1 << 24, .address_space = INT64_MAX, .job_seconds = 60,
                        .inspect_seconds = 10, .silence_seconds = 20, .cgroups = &groups };
    opened(f, "memory pids");
    struct job_request r = fixture_request(f);
    r.recipe = "{\"fake\":\"result model.onnx x\"}";
    r.memory = INT64_C(10) << 30;
    assert_true(job_insert(f->store, TEAM_LOCAL, &r, &job, &e));
    struct workers *w = workers_start(&c, f->store, &e);
    assert_non_null(w);
    bool ended = false;
    for (int64_t end = clock_mono_us() + 20 * 1000000; !ended && clock_mono_us() < end; sched_yield()) {
        struct job now;
        assert_true(job_get(f->store, TEAM_LOCAL, job.id, &now, NULL));
        ended = now.state == JOB_SUCCEEDED;
        job_release(&now);
    }
    workers_stop(w);
    assert_true(ended);
    assert_string_equal(file("memory.max")->last, "21474836480");
    job_release(&job);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        T(what_is_offered_is_handed_down_and_told),
        T(a_folder_has_one_daemon),
        T(a_folder_that_cannot_be_used_is_named_with_what_is_wrong),
        T(what_an_earlier_life_left_is_ended_and_nothing_else),
        T(our_own_group_is_taken_only_if_it_is_marked),
        T(a_group_has_the_bounds_of_the_controllers_there_are),
        T(a_kernel_without_swap_accounting_is_fine_and_one_without_the_bound_is_not),
        T(a_name_that_is_taken_is_passed_over),
        T(what_a_child_may_have_grows_with_what_it_is_given),
        T(a_job_may_have_twice_what_it_was_estimated_to_take),
        T(a_child_enters_its_group_and_keeps_no_way_to_it),
        T(a_childs_end_is_told_by_what_its_group_counted),
    };
    if (launcher_called(argc, argv))
        return launcher_main(argc, argv);
    if (argc >= 3 && strcmp(argv[1], "job") == 0)
        return fake_job_main(argc, argv);
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
