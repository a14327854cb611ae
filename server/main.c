/*
 * main.c - repquantd: the order in which things start, and end.
 */
#include "api/app.h"
#include "api/metrics.h"
#include "core/base/io.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/version.h"
#include "server/cgroup.h"
#include "server/command.h"
#include "server/config.h"
#include "server/heap.h"
#include "server/http.h"
#include "server/http_watch.h"
#include "server/import.h"
#include "server/inspect.h"
#include "server/launcher.h"
#include "server/outbound.h"
#include "server/sandbox.h"
#include "server/sender.h"
#include "server/task.h"
#include "server/upkeep.h"
#include "server/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_HOSTS = 32 };

struct daemon {
    struct config config;
    struct store *store;
    struct upkeep upkeep;
    struct watch *watch;
    struct inspector *inspector;
    struct workers *workers;
    struct outbound *outbound;
    struct importer *importer;
    struct sandbox sandbox;
    struct cgroups cgroups;
    struct sender *sender;
    struct app app;
    int metrics;                    /* enum metrics_for */
    struct http *http;
    struct proxies proxies;
    char *proxy_secret, *tls_cert, *tls_key;
    struct rate_table *rates, *guesses, *stranger_rows;
    char *hosts_text;
    const char *hosts[MAX_HOSTS + 1];
};

/* ---- the process ---- */

/* A descriptor 0, 1 or 2 that is missing would become a database, and then a target of printf(). */
static bool fill_standard_descriptors(struct err *e)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR | O_NOCTTY);      /* no O_CLOEXEC: 0 to 2 are for children too */
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
    return fd >= 0 || err_sys(e, "/dev/null", "open");
}

/*
 * Signals are taken here, by sigwait(), and nowhere else.  Called before the first thread exists, so
 * that every thread inherits the blocked mask.
 */
static void take_signals(sigset_t *ret_mine)
{
    (void)signal(SIGPIPE, SIG_IGN);                           /* a client that left is an EPIPE, not our death */
    sigemptyset(ret_mine);
    sigaddset(ret_mine, SIGINT);
    sigaddset(ret_mine, SIGTERM);
    sigaddset(ret_mine, SIGHUP);
    pthread_sigmask(SIG_BLOCK, ret_mine, NULL);
}

static bool start_process(sigset_t *ret_mine, struct err *e)
{
    heap_share();
    if (!fill_standard_descriptors(e))
        return false;
    take_signals(ret_mine);
    umask(077);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);                 /* tokens pass through our memory: no core files */
    json_object_seed(0);                                /* before threads: jansson's hash must not be guessable */
    tzset();
    return true;
}

static int die(const struct err *e)
{
    log_line(LOG_ERROR, "daemon.failed", "%s: %s", e->where, e->text);
    return err_exit_code(e->code);
}

/* ---- the parts ---- */

static bool set_log_level(const char *name, struct err *e)
{
    enum log_level level;
    if (!log_level_parse(name, &level))
        return err_set(e, ERR_CONFIG, "log-level", "\"%.40s\" is not debug, info, warn or error", name);
    log_set_level(level);
    return true;
}

static bool set_log_format(const char *name, struct err *e)
{
    bool text = strcmp(name, "text") == 0;
    log_set_format(text ? LOG_TEXT : LOG_JSON);
    return text || strcmp(name, "json") == 0 || err_set(e, ERR_CONFIG, "log-format", "\"%.40s\" is neither json nor text", name);
}

static bool take_metrics(const char *name, int *ret, struct err *e)
{
    static const char *const names[] = { [METRICS_LOCAL] = "local", [METRICS_NOBODY] = "nobody", [METRICS_EVERYBODY] = "everybody" };
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            *ret = i;
            return true;
        }
    return err_set(e, ERR_CONFIG, "metrics", "\"%.40s\" is not local, nobody or everybody", name);
}

static bool recover(struct daemon *d, struct err *e)
{
    struct recovery r;
    if (!store_recover(d->store, &r, e))
        return false;
    log_line(LOG_INFO, "daemon.recovered", "jobs: %d queued again, %d failed, %d canceled; removed: %d blobs, %d folders",
             r.requeued, r.failed, r.canceled, r.blobs_removed, r.folders_removed);
    return true;
}

static bool save_token(const char *dir, const char *text, struct err *e)
{
    struct newfile f;
    bool ok = newfile_open(&f, dir, 0600, UINT64_MAX, e) && newfile_write(&f, text, strlen(text), e)
           && newfile_write(&f, "\n", 1, e) && newfile_commit(&f, "token", e);
    newfile_abort(&f);
    return ok;
}

/* To a person; under a service manager and in a container standard output is the log, which others read and others keep. */
static void show_token(const char *dir, const char *text)
{
    if (isatty(STDOUT_FILENO))
        printf("The administrator's token, shown once and kept in %s/token:\n%s\n", dir, text);
    else
        printf("The administrator's token is in %s/token\n", dir);
    (void)fflush(stdout);
}

/*
 * Somebody must be able to make the first token, and the next one when the last administrator's has expired.  The file is safe before the
 * token is valid: a valid one that nobody knows would lock everybody out, as the next start would make none.
 */
static bool first_token(struct daemon *d, struct err *e)
{
    struct token t;
    char text[TOKEN_TEXT_SIZE], same[TOKEN_TEXT_SIZE];
    struct token_request request = { .name = "made at start", .scopes = "admin", .text = text };
    bool any;
    if (!d->config.auth)
        return true;
    if (!token_any_admin(d->store, &any, e))
        return false;
    if (any)
        return true;
    bool ok = token_text(text, e) && save_token(store_dir(d->store), text, e) && token_issue(d->store, TEAM_LOCAL, &request, &t, same, e);
    if (ok)
        show_token(store_dir(d->store), text);
    explicit_bzero(text, sizeof text);
    explicit_bzero(same, sizeof same);
    return ok;
}

/* A small file that an option names; malloc'd. */
static char *read_text(const char *path, const char *option, struct err *e)
{
    enum { TEXT_MAX = 256 << 10 };
    struct err why = { 0 };
    char *text = NULL;
    size_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        err_sys(&why, path, "open");
    else
        io_read_all(fd, path, TEXT_MAX, &text, &n, &why);
    if (fd >= 0)
        close(fd);
    if (!text)
        err_set(e, ERR_CONFIG, option, "%.200s: %s", path, why.text);
    return text;
}

static bool split_hosts(struct daemon *d, struct err *e)
{
    int n = 0;
    char *rest = d->hosts_text = strdup(d->config.hosts);
    if (!rest)
        return err_sys(e, "hosts", "split");
    for (char *host; (host = strsep(&rest, ", "));) {
        if (!*host)
            continue;
        if (n == MAX_HOSTS)
            return err_set(e, ERR_CONFIG, "hosts", "at most %d names", (int)MAX_HOSTS);
        d->hosts[n++] = host;
    }
    return true;
}

static void app_kick(void *server) { workers_kick(((struct daemon *)server)->workers); }
static void app_cancel(void *server, const char *job_id) { workers_cancel(((struct daemon *)server)->workers, job_id); }

static bool app_inspect(void *server, const char *team, enum asset_kind kind, const struct asset_file *files, size_t n,
                        char **ret_json, struct err *e)
{
    struct inspect_wish wish = { .team = team, .kind = kind, .files = files, .n = n };
    return inspect_wait(((struct daemon *)server)->inspector, &wish, ret_json, e);
}

static bool app_validate(void *server, const char *team, const struct asset *model, const struct asset *data, char **ret_json, struct err *e)
{
    struct inspect_wish wish = { .team = team, .kind = ASSET_MODEL, .files = model->files, .n = model->nfiles, .data = &data->files[0] };
    return inspect_wait(((struct daemon *)server)->inspector, &wish, ret_json, e);
}

static bool app_import(void *server, const char *team, const char *url, const char *want, struct upload *ret, struct err *e)
{
    return importer_add(((struct daemon *)server)->importer, team, url, want, ret, e);
}

static bool app_target(void *server, const char *url, char ret_origin[WEBHOOK_ORIGIN_SIZE], struct err *e)
{
    return outbound_check(((struct daemon *)server)->outbound, url, false, e)
        && (outbound_origin(url, ret_origin, WEBHOOK_ORIGIN_SIZE) || err_set(e, ERR_TARGET, "/url", "the URL names no host"));
}

static bool take_proxies(struct daemon *d, struct err *e)
{
    enum { SECRET_MIN = 16 };
    const char *path = d->config.proxy_secret_file;
    if (!proxies_parse(d->config.trusted_proxies, &d->proxies, e))
        return false;
    if (!path[0])
        return true;
    if (!(d->proxy_secret = read_text(path, "proxy-secret-file", e)))
        return false;
    d->proxy_secret[strcspn(d->proxy_secret, "\r\n")] = '\0';
    return strlen(d->proxy_secret) >= SECRET_MIN
        || err_set(e, ERR_CONFIG, "proxy-secret-file", "%.100s must hold a line of at least %d bytes", path, (int)SECRET_MIN);
}

static bool take_certificate(struct daemon *d, struct err *e)
{
    const struct config *c = &d->config;
    return !c->tls_cert[0]
        || ((d->tls_cert = read_text(c->tls_cert, "tls-cert", e)) && (d->tls_key = read_text(c->tls_key, "tls-key", e)));
}

/* What a plan needs of a data set's description; pictures have more in theirs. */
static json_t *shapes_of(const struct asset *data)
{
    if (!data)
        return NULL;
    json_t *all = json_read(data->inventory, JSON_REJECT_DUPLICATES);
    json_t *some = json_pack("{s:O*, s:O*}", "format", json_object_get(all, "format"), "arrays", json_object_get(all, "arrays"));
    json_decref(all);
    return some;
}

static bool app_foresee(void *server, const char *team, const struct foresight *of, char **ret_json, struct err *e)
{
    struct inspect_wish wish = { .team = team, .kind = ASSET_MODEL, .files = of->model->files, .n = of->model->nfiles };
    json_t *recipe = json_read(of->recipe, JSON_REJECT_DUPLICATES);
    wish.job = json_pack("{s:o, s:o*, s:o*}", "recipe", recipe, "calibration_inventory", shapes_of(of->dataset),
                         "evaluation_inventory", shapes_of(of->evaluation));
    return (wish.job || err_set(e, ERR_MEMORY, "", "no memory to look ahead; try again"))
        && inspect_wait(((struct daemon *)server)->inspector, &wish, ret_json, e);
}

/* No limit is no table. */
static bool make_rates(struct daemon *d, struct err *e)
{
    enum { TOKENS = 8192, ADDRESSES = 8192, GUESSES_BURST = 10 };
    const struct config *c = &d->config;
    struct rate_limit tokens = { .per_second = c->rate, .burst = c->rate_burst };
    struct rate_limit guesses = { .per_second = c->guesses, .burst = c->guesses * GUESSES_BURST };
    return (!c->rate || (d->rates = rate_new(tokens, TOKENS, e))) && (!c->guesses || (d->guesses = rate_new(guesses, ADDRESSES, e)))
        && (d->stranger_rows = rate_new((struct rate_limit){ .per_second = 1, .burst = 60 }, 1, e));
}

static void fill_app(struct daemon *d)
{
    d->app = (struct app){
        .store = d->store, .version = engine_version, .max_upload = (uint64_t)d->config.max_upload, .auth = d->config.auth,
        .hosts = d->hosts, .proxies = &d->proxies, .proxy_secret = d->proxy_secret, .rates = d->rates, .guesses = d->guesses,
        .stranger_rows = d->stranger_rows, .workers = d->config.workers, .metrics = d->metrics,
        .sandbox = sandbox_level(&d->sandbox), .landlock = d->sandbox.landlock, .cgroup = cgroups_used(&d->cgroups),
        .server = d, .kick = app_kick, .cancel = app_cancel, .inspect = app_inspect, .validate = app_validate,
        .import = app_import, .foresee = app_foresee, .target = app_target,
        .jobs_memory = task_jobs_memory(&d->config), .job_threads = task_threads(&d->config), .job_budget = d->config.memory,
    };
}

/* The file appears complete, so whoever waits for it reads a port or nothing. */
static bool announce(struct daemon *d, struct err *e)
{
    char text[16], *dir = NULL;
    const char *path = d->config.port_file, *slash = strrchr(path, '/');
    int port = http_port(d->http);
    log_line(LOG_INFO, "daemon.listening", "%s://%s:%d", d->tls_cert ? "https" : "http", d->config.listen, port);
    if (d->config.port == 0)
        printf("listening on port %d\n", port);
    (void)fflush(stdout);
    if (!path[0])
        return true;
    dir = slash ? strndup(path, (size_t)(slash - path) + (slash == path)) : strdup(".");
    snprintf(text, sizeof text, "%d\n", port);
    bool ok = dir ? io_save(dir, slash ? slash + 1 : path, text, strlen(text), e) : err_sys(e, path, "write");
    free(dir);
    return ok;
}

/* ---- running ---- */

/* "You insist." */
static void *exit_at_once(void *mine)
{
    int sig;
    sigwait(mine, &sig);
    log_line(LOG_WARN, "daemon.killed", "second signal %d: exiting at once", sig);
    _exit(EXIT_FAILURE);
}

/* Waits for the end, which a signal (its number) or the storage (0) brings. */
static int run(struct daemon *d, const sigset_t *mine)
{
    struct timespec second = { .tv_sec = 1 };
    upkeep_begin(&d->upkeep, d->store, &d->config);
    for (;;) {
        int sig = sigtimedwait(mine, NULL, &second);
        if (sig > 0)
            return sig;
        if (errno != EAGAIN)
            continue;
        if (store_broken(d->store))
            return 0;
        upkeep_turn(&d->upkeep);
    }
}

/* Takes no new work, but answers: whoever sends us requests asks /readyz, and needs time to go elsewhere. */
static void give_notice(struct daemon *d)
{
    atomic_store(&d->app.draining, true);
    struct timespec left = { .tv_sec = d->config.drain_notice };
    while (nanosleep(&left, &left) != 0)
        ;
}

/* Why it ends; the exit status. */
static int leave(struct daemon *d, int sig, sigset_t *mine)
{
    enum { TRY_AGAIN = 75 };                            /* EX_TEMPFAIL: a service manager starts us again */
    pthread_t impatience;
    if (sig)
        log_line(LOG_INFO, "daemon.draining", "signal %d", sig);
    else
        log_line(LOG_ERROR, "daemon.storage", "something could not be written or synced; stopping, so that the next start sees what is on the disk");
    if (pthread_create(&impatience, NULL, exit_at_once, mine) == 0)
        pthread_detach(impatience);
    if (sig)
        give_notice(d);
    return sig ? EXIT_SUCCESS : TRY_AGAIN;
}

/* Before the jobs of an earlier life are queued again, for it ends their processes; behind the lock of the data folder, for they might be another's. */
static bool take_cgroup(struct daemon *d, struct err *e)
{
    d->config.cgroups = &d->cgroups;
    return cgroups_open(strcmp(d->config.sandbox, "off") == 0 ? "off" : d->config.cgroup, &d->cgroups, e);
}

static bool start(struct daemon *d, struct err *e)
{
    const struct config *c = &d->config;
    if (c->port_file[0])
        unlink(c->port_file);                           /* one that a killed daemon left would be believed */
    if (!set_log_format(c->log_format, e) || !set_log_level(c->log_level, e) || !take_metrics(c->metrics, &d->metrics, e) || !split_hosts(d, e)
        || !take_proxies(d, e) || !sandbox_choose(c->sandbox, &d->sandbox, e) || !take_certificate(d, e) || !make_rates(d, e))
        return false;
    if (!(d->outbound = outbound_new(c->import_hosts, c->outbound_private, c->outbound_ca, e)))     /* before the first thread */
        return false;
    if (!(d->store = store_open(c->data, e)))
        return false;
    store_limit(d->store, &(struct store_limits){ .keep_free = (uint64_t)c->keep_free, .upload_expiry_us = c->upload_seconds * 1000000,
                                                  .uploads_per_team = (int)c->uploads,
                                                  .webhooks_per_team = (int)c->webhooks, .public_url = c->public_url });
    if (!take_cgroup(d, e) || !recover(d, e) || !first_token(d, e))
        return false;
    struct watch_limits readers = { .watchers = (int)c->event_readers, .beat_seconds = (int)c->event_heartbeat };
    if (!(d->watch = watch_start(d->store, readers, e)))   /* before anything that writes about jobs */
        return false;
    if (!(d->sender = sender_start(c, d->store, d->outbound, e)))
        return false;
    if (!(d->inspector = inspector_start(c, d->store, e)))
        return false;
    if (!(d->importer = importer_start(c, d->store, d->outbound, e)))
        return false;
    if (!(d->workers = workers_start(c, d->store, e)))
        return false;
    fill_app(d);
    struct http_options options = { .listen = c->listen, .port = c->port, .tls_cert = d->tls_cert, .tls_key = d->tls_key,
                                    .watch = d->watch, .per_address = (int)c->connections };
    return (d->http = http_start(&options, &d->app, e)) && announce(d, e);
}

/* start() read backwards; any part may be missing. */
static void stop(struct daemon *d)
{
    if (d->inspector)
        inspector_drain(d->inspector);                  /* requests wait for it, so it ends first */
    if (d->importer)
        importer_drain(d->importer);
    if (d->workers)
        workers_drain(d->workers);                      /* the children end while the requests do */
    http_stop(d->http, (int)d->config.drain_seconds);   /* no new jobs from here */
    workers_stop(d->workers);                           /* running ones go back to the queue */
    inspector_stop(d->inspector);
    importer_stop(d->importer);
    sender_stop(d->sender);                             /* after all that has something to tell */
    upkeep_end(&d->upkeep);
    outbound_free(d->outbound);
    watch_stop(d->watch);
    if (d->config.cgroups)
        cgroups_close(&d->cgroups);
    store_close(d->store);
    if (d->http && d->config.port_file[0])
        unlink(d->config.port_file);
    rate_free(d->rates);
    rate_free(d->guesses);
    rate_free(d->stranger_rows);
    free(d->hosts_text);
    free(d->proxy_secret);
    free(d->tls_cert);
    if (d->tls_key)
        explicit_bzero(d->tls_key, strlen(d->tls_key));
    free(d->tls_key);
}

int main(int argc, char **argv)
{
    static struct daemon d;
    struct err e = { 0 };
    sigset_t mine;

    if (launcher_called(argc, argv))
        return launcher_main(argc, argv);
    if (config_told(argc, argv))
        return EXIT_SUCCESS;
    if (command_called(argc, argv))
        return command_main(argc, argv);
    if (!start_process(&mine, &e))
        return die(&e);
    bool ok = config_load(&d.config, argc, argv, &e) && start(&d, &e);
    int status = ok ? EXIT_SUCCESS : die(&e);
    if (ok)
        status = leave(&d, run(&d, &mine), &mine);
    stop(&d);
    if (ok)
        log_line(LOG_INFO, "daemon.stopped", "goodbye");
    return status;
}
