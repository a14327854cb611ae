/*
 * fake_job.c - stands in for `repquant` where a test needs a child that misbehaves on command.
 *
 * Run as `fake_job job DIR`.  It does what a script says, statement by statement, separated by ';'.  The script
 * is recipe.fake of DIR/job.json or, so that it also works through the HTTP API, the line of the model's (or data set's)
 * first 4 KiB that begins with "#quantize " or "#inspect ".  A script without an ending ends with `done`.
 *
 *   stage S | progress D T | layer N | warning CODE [N] | metric NAME A B [N]    report; N metrics have a number behind the name
 *   result NAME TEXT...     write a result that `done` will name
 *   sparse NAME BYTES | symlink NAME TARGET | hardlink NAME | fifo NAME    leave something else under that name
 *   journal TEXT | expect-journal TEXT                                   append to it; end with 1 if it is different
 *   facts                   write result.json with what the launcher left us: limits, descriptors, environment
 *   sleep MS                wait, ending with 3 when the control pipe closes
 *   await PATH              wait until there is such a file, where no sandbox hides it
 *   hang | stubborn         never end: silent; reporting, with SIGTERM ignored
 *   orphan MS               leave a grandchild that lives that long and holds our pipes
 *   flood | longline | garbage | bulk                                    misuse the event pipe
 *   crash | abort | killed | exit N | quit                               end without a last word
 *   stderr TEXT             say something to people
 *   problem CODE yes|no TEXT...     end with a problem, retryable or not
 *   done | linger           end well; say so but do not end
 *   try WHAT                what a taken-over quantizer might: see the table in tries.h; what is refused with an error is a problem
 */
#include "core/base/io.h"
#include "core/base/json.h"
#include "core/base/seal.h"
#include "tests/tools/tries.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

enum { MAX_WORDS = 8, SCRIPT_MAX = 4096 };

static json_t *results;             /* names that `done` will list */

static void say(json_t *event)
{
    char *text = json_text(event, JSON_COMPACT);
    dprintf(STDOUT_FILENO, "%s\n", text);
    free(text);
    json_decref(event);
}

static long number(const char *word) { return word ? strtol(word, NULL, 10) : 0; }

static void wait_ms(long ms, bool obey)
{
    struct pollfd control = { .fd = obey ? STDIN_FILENO : -1, .events = POLLIN };
    if (poll(&control, 1, (int)ms) > 0)
        exit(3);
}

static void end_well(void)
{
    say(json_pack("{s:s, s:O}", "event", "done", "files", results));
}

/* ---- statements; w[0] is the name, missing words are "" ---- */

static void do_stage(char **w) { say(json_pack("{s:s, s:s}", "event", "stage", "stage", w[1])); }

static void do_progress(char **w)
{
    say(json_pack("{s:s, s:i, s:i, s:i}", "event", "progress", "done", (int)number(w[1]), "total", (int)number(w[2]), "samples", 8));
}

static void do_layer(char **w)
{
    for (long i = 0; i < number(w[1]); i++)
        say(json_pack("{s:s, s:i, s:s, s:s, s:f}", "event", "layer", "index", (int)i, "name", "fc", "op", "MatMul",
                      "weight_sqnr_db", 20.0 + (double)i));
}

static void do_warning(char **w)
{
    for (long n = w[2][0] ? number(w[2]) : 1; n > 0; n--)
        say(json_pack("{s:s, s:s, s:s, s:s}", "event", "warning", "code", w[1], "where", "fc", "detail", "so"));
}

static void do_metric(char **w)
{
    for (long i = 0; i < (w[4][0] ? number(w[4]) : 1); i++)
        say(json_pack("{s:s, s:o, s:f, s:f, s:i}", "event", "metric", "name", w[4][0] ? json_sprintf("%s%ld", w[1], i) : json_string(w[1]),
                      "float", strtod(w[2], NULL), "quantized", strtod(w[3], NULL), "samples", 100));
}

static void remember(const char *name) { json_array_append_new(results, json_string(name)); }

static void do_result(char **w)
{
    if (!io_save(".", w[1], w[2], strlen(w[2]), NULL))
        exit(3);
    remember(w[1]);
}

static void do_sparse(char **w)
{
    int fd = open(w[1], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, number(w[2])) != 0)
        exit(3);
    close(fd);
    remember(w[1]);
}

static void do_symlink(char **w)
{
    if (symlink(w[2], w[1]) != 0)
        exit(3);
    remember(w[1]);
}

static void do_hardlink(char **w)
{
    int fd = open("other", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || link("other", w[1]) != 0)
        exit(3);
    close(fd);
    remember(w[1]);
}

static void do_fifo(char **w)
{
    if (mkfifo(w[1], 0600) != 0)
        exit(3);
    remember(w[1]);
}

static void do_journal(char **w)
{
    FILE *f = fopen("journal", "a");
    if (!f || fputs(w[1], f) < 0 || fclose(f) != 0)
        exit(3);
}

static void do_expect_journal(char **w)
{
    char text[256] = "";
    FILE *f = fopen("journal", "r");
    if (f) {
        text[fread(text, 1, sizeof text - 1, f)] = '\0';
        fclose(f);
    }
    if (strcmp(text, w[1]) != 0)
        exit(1);
}

static long long limit_of(int resource)
{
    struct rlimit r;
    return getrlimit((__rlimit_resource_t)resource, &r) == 0 ? (long long)r.rlim_cur : -2;
}

/* The number in a file of one; -1 without it. */
static long number_in(const char *path)
{
    char text[24] = "-1";
    FILE *f = fopen(path, "re");
    if (f && !fgets(text, sizeof text, f))
        exit(3);
    if (f)
        fclose(f);
    return number(text);
}

static json_t *open_descriptors(void)
{
    json_t *list = json_array();
    DIR *d = opendir("/proc/self/fd");
    for (struct dirent *entry; d && (entry = readdir(d));)
        if (entry->d_name[0] != '.' && number(entry->d_name) != dirfd(d))
            json_array_append_new(list, json_integer(number(entry->d_name)));
    if (d)
        closedir(d);
    return list;
}

static void do_facts(char **w)
{
    (void)w;
    json_t *env = json_array();
    for (char **e = environ; *e; e++)
        json_array_append_new(env, json_string(*e));
    json_t *facts = json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:i, s:b, s:i, s:i}", "environment", env, "descriptors", open_descriptors(),
                              "address_space", (json_int_t)limit_of(RLIMIT_AS), "files", (json_int_t)limit_of(RLIMIT_NOFILE),
                              "file_size", (json_int_t)limit_of(RLIMIT_FSIZE), "core", (json_int_t)limit_of(RLIMIT_CORE),
                              "nice", getpriority(PRIO_PROCESS, 0), "no_new_privileges", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
                              "leads_session", getsid(0) == getpid(), "oom_score_adj", (int)number_in("/proc/self/oom_score_adj"));
    char *text = json_text(facts, JSON_COMPACT);
    if (!text || !io_save(".", "result.json", text, strlen(text), NULL))
        exit(3);
    remember("result.json");
    free(text);
    json_decref(facts);
}

static void do_sleep(char **w) { wait_ms(number(w[1]), true); }

static void do_await(char **w)
{
    while (access(w[1], F_OK) != 0)
        wait_ms(10, true);
}

static void do_hang(char **w)
{
    (void)w;
    for (;;)
        wait_ms(INT_MAX, false);
}

static void do_stubborn(char **w)
{
    (void)w;
    signal(SIGTERM, SIG_IGN);
    for (;;) {
        do_progress((char *[]){ NULL, (char *)(uintptr_t)"1", (char *)(uintptr_t)"2" });
        wait_ms(50, false);
    }
}

static void do_orphan(char **w)
{
    if (fork() != 0)
        return;
    wait_ms(number(w[1]), false);
    _exit(0);
}

static void do_flood(char **w)
{
    (void)w;
    static const char line[] = "{\"event\":\"progress\",\"done\":1,\"total\":2}\n";
    while (io_write_all(STDOUT_FILENO, line, sizeof line - 1) == 0)
        ;
}

/* Few lines, long ones, without end. */
static void do_bulk(char **w)
{
    static char text[15000];
    (void)w;
    memset(text, 'x', sizeof text - 1);
    while (dprintf(STDOUT_FILENO, "{\"event\":\"note\",\"text\":\"%s\"}\n", text) > 0)
        ;
}

static void do_longline(char **w)
{
    (void)w;
    while (io_write_all(STDOUT_FILENO, "xxxxxxxxxxxxxxxx", 16) == 0)
        ;
}

static void do_garbage(char **w)
{
    (void)w;
    dprintf(STDOUT_FILENO, "{\"event\":\"layer\",\"index\":-1}\n");
    do_hang(NULL);
}

static void do_crash(char **w)
{
    (void)w;
    signal(SIGSEGV, SIG_DFL);       /* a sanitizer would turn it into an exit */
    raise(SIGSEGV);
}

static void do_abort(char **w)
{
    (void)w;
    abort();
}

static void do_killed(char **w)
{
    (void)w;
    raise(SIGKILL);
}

static void do_exit(char **w) { exit((int)number(w[1])); }

static void do_quit(char **w)
{
    (void)w;
    exit(0);
}

static void do_stderr(char **w) { dprintf(STDERR_FILENO, "%s\n", w[1]); }

static void do_problem(char **w)
{
    say(json_pack("{s:s, s:s, s:s, s:s, s:b}", "event", "problem", "code", w[1], "where", "node 3", "detail", w[3],
                  "retryable", (int)(strcmp(w[2], "yes") == 0)));
    exit(1);
}

static void do_done(char **w)
{
    (void)w;
    end_well();
    exit(0);
}

static void do_linger(char **w)
{
    end_well();
    do_hang(w);
}

static void do_try(char **w)
{
    for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
        if (strcmp(w[1], tries[i].name) != 0)
            continue;
        bool got_through = tries[i].run() >= 0;
        int why = errno;
        say(json_pack("{s:s, s:s, s:s, s:o, s:b}", "event", "problem", "code", "environment.permission", "where", w[1], "detail",
                      json_sprintf("%s: %s", w[1], got_through ? "got through" : strerrordesc_np(why)), "retryable", 0));
        exit(3);
    }
    dprintf(STDERR_FILENO, "fake_job: try what?\n");
    exit(2);
}

static const struct statement { const char *name; void (*run)(char **w); } statements[] = {
    { "stage", do_stage }, { "progress", do_progress }, { "layer", do_layer }, { "warning", do_warning }, { "metric", do_metric },
    { "result", do_result }, { "sparse", do_sparse }, { "symlink", do_symlink }, { "hardlink", do_hardlink }, { "fifo", do_fifo },
    { "journal", do_journal }, { "expect-journal", do_expect_journal }, { "facts", do_facts }, { "sleep", do_sleep },
    { "await", do_await },
    { "hang", do_hang }, { "stubborn", do_stubborn }, { "orphan", do_orphan }, { "flood", do_flood }, { "longline", do_longline },
    { "garbage", do_garbage }, { "bulk", do_bulk }, { "crash", do_crash }, { "abort", do_abort }, { "killed", do_killed },
    { "exit", do_exit }, { "quit", do_quit },
    { "stderr", do_stderr }, { "problem", do_problem }, { "done", do_done }, { "linger", do_linger }, { "try", do_try },
};

static void run_statement(char *text)
{
    char none[] = "", *w[MAX_WORDS], *rest = text;
    for (int i = 0; i < MAX_WORDS; i++) {
        char *word;
        do
            word = strsep(&rest, " \n");
        while (word && !*word);
        w[i] = word ? word : none;
    }
    if (!w[0][0])
        return;
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++)
        if (strcmp(w[0], statements[i].name) == 0) {
            statements[i].run(w);
            return;
        }
    dprintf(STDERR_FILENO, "fake_job: what is \"%s\"?\n", w[0]);
    exit(2);
}

static json_t *read_task(void)
{
    char *text = NULL;
    size_t n;
    int fd = open("job.json", O_RDONLY | O_CLOEXEC);
    json_t *task = fd >= 0 && io_read_all(fd, "job.json", 1 << 20, &text, &n, NULL) ? json_parse(text, n, 32, ERR_BUG, NULL) : NULL;
    free(text);
    if (fd >= 0)
        close(fd);
    return task;
}

/* The rest of the input's line that begins with `mark`. */
static bool script_of_input(const json_t *task, const char *mark, char *ret, size_t size)
{
    char text[SCRIPT_MAX];
    const json_t *file = json_array_get(json_object_get(json_object_get(task, "model"), "files"), 0);
    if (!file)
        file = json_object_get(task, "calibration");
    ssize_t n = file ? pread((int)json_integer_value(json_object_get(file, "fd")), text, sizeof text - 1, 0) : -1;
    text[n < 0 ? 0 : n] = '\0';
    const char *at = strstr(text, mark);
    if (!at || (at != text && at[-1] != '\n'))
        return false;
    at += strlen(mark);
    snprintf(ret, size, "%.*s", (int)strcspn(at, "\n"), at);
    return true;
}

static int fake_job_main(int argc, char **argv)
{
    char script[SCRIPT_MAX] = "", *rest = script;
    struct err e = { 0 };
    if (argc < 3 || strcmp(argv[1], "job") != 0)
        return 2;
    if (chdir(argv[argc - 1]) != 0)
        return 3;
    parent = getppid();
    if (strcmp(argv[2], "--sealed") == 0 && !(start_old_thread() && seal_process(&e))) {
        dprintf(STDERR_FILENO, "fake_job: %s\n", e.text);
        return 3;
    }
    json_t *task = read_task();
    if (!task)
        return 3;
    results = json_array();
    const char *given = json_string_value(json_object_get(json_object_get(task, "recipe"), "fake"));
    const char *type = json_string_value(json_object_get(task, "type"));
    bool inspects = type && (strncmp(type, "inspect_", 8) == 0 || strcmp(type, "validate") == 0);
    if (given)
        snprintf(script, sizeof script, "%s", given);
    else if (!script_of_input(task, inspects ? "#inspect " : "#quantize ", script, sizeof script) && inspects)
        snprintf(script, sizeof script, "result result.json {}");
    for (char *statement; (statement = strsep(&rest, ";"));)
        run_statement(statement);
    end_well();
    json_decref(results);
    json_decref(task);
    return 0;
}

#ifndef FAKE_JOB_IS_PART_OF_A_TEST
int main(int argc, char **argv) { return fake_job_main(argc, argv); }
#endif
