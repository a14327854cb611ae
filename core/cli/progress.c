#include "core/cli/progress.h"

#include "core/base/clock.h"
#include "core/base/io.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { MAX_LINE = 16 << 10, MIN_INTERVAL_US = 100000, BAR = 30 };

/* One event as one line; decrefs.  A line that would be too long is left out: results are in files. */
static void write_line(struct progress *p, json_t *line)
{
    char *text = line ? json_text(line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    size_t n = text ? strlen(text) : 0;
    if (n && n < MAX_LINE) {
        text[n] = '\n';
        (void)io_write_all(p->fd, text, n + 1);      /* a reader that left is noticed by the control pipe */
    }
    free(text);
    json_decref(line);
}

static void on_stage(void *arg, const char *stage)
{
    struct progress *p = arg;
    snprintf(p->stage, sizeof p->stage, "%s", stage);
    if (p->kind == PROGRESS_JSON)
        write_line(p, json_pack("{s:s,s:s}", "event", "stage", "stage", stage));
    else if (p->kind == PROGRESS_BAR)
        dprintf(p->fd, "\r\033[K%s", stage);
}

static void draw_bar(struct progress *p, int done, int total)
{
    static const char full[] = "##############################", none[] = "..............................";
    int n = total ? done * BAR / total : 0;
    dprintf(p->fd, "\r\033[K%-12s [%.*s%.*s] %d/%d sites", p->stage, n, full, BAR - n, none, done, total);
}

static void on_progress(void *arg, int done, int total, int64_t samples)
{
    struct progress *p = arg;
    int64_t now = clock_mono_us();
    if (done < total && now - p->last_us < MIN_INTERVAL_US)
        return;
    p->last_us = now;
    if (p->kind == PROGRESS_JSON)
        write_line(p, json_pack("{s:s,s:i,s:i,s:I}", "event", "progress", "done", done, "total", total, "samples", (json_int_t)samples));
    else if (p->kind == PROGRESS_BAR)
        draw_bar(p, done, total);
}

static void on_resumed(void *arg, int sites, int weights)
{
    struct progress *p = arg;
    if (p->kind == PROGRESS_JSON)
        write_line(p, json_pack("{s:s,s:i,s:i}", "event", "resumed", "sites", sites, "weights", weights));
}

static void on_layer(void *arg, int index, const json_t *row)
{
    struct progress *p = arg;
    if (p->kind != PROGRESS_JSON)
        return;
    json_t *line = json_pack("{s:s,s:i}", "event", "layer", "index", index);
    json_object_update(line, (json_t *)(uintptr_t)row);
    write_line(p, line);
}

static void on_warning(void *arg, const char *code, const char *where, const char *detail)
{
    struct progress *p = arg;
    p->warnings++;
    if (p->kind == PROGRESS_JSON)
        write_line(p, json_pack("{s:s,s:s,s:s,s:s}", "event", "warning", "code", code, "where", where, "detail", detail));
    else
        dprintf(p->fd, "%swarning: %s: %s [%s]\n", p->kind == PROGRESS_BAR ? "\r\033[K" : "", where, detail, code);
}

static void on_metric(void *arg, const char *name, double reference, double quantized, int64_t samples)
{
    struct progress *p = arg;
    if (p->kind == PROGRESS_JSON)
        write_line(p, json_pack("{s:s,s:s,s:o,s:o,s:I}", "event", "metric", "name", name, "float", json_finite(reference),
                                "quantized", json_finite(quantized), "samples", (json_int_t)samples));
}

void progress_init(struct progress *p, enum progress_kind kind, int fd)
{
    *p = (struct progress){ .kind = kind, .fd = fd };
    p->events = (struct events){ p, on_stage, on_progress, on_resumed, on_layer, on_warning, on_metric };
}

void progress_end(struct progress *p)
{
    if (p->kind == PROGRESS_BAR)
        dprintf(p->fd, "\r\033[K");
}

/* Most bytes this process had at any time; 0: unknown.  (getrusage() would count what the process was before exec.) */
static int64_t peak_bytes(void)
{
    char text[4096] = "";
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    const char *at = n > 0 ? strstr(text, "VmHWM:") : NULL;
    return at ? 1024 * strtoll(at + strlen("VmHWM:"), NULL, 10) : 0;
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

void progress_done(struct progress *p, const char *const *files, size_t n)
{
    json_t *names = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(names, json_string(files[i]));
    write_line(p, json_pack("{s:s,s:o,s:I,s:f}", "event", "done", "files", names, "peak_bytes", (json_int_t)peak_bytes(), "cpu_seconds",
                            cpu_seconds()));
}

void progress_problem(struct progress *p, const struct err *e)
{
    write_line(p, json_pack("{s:s,s:s,s:s,s:i,s:s,s:s,s:b}", "event", "problem", "code", err_slug(e->code), "title",
                            err_title(e->code), "status", err_http_status(e->code), "detail", e->text, "where", e->where,
                            "retryable", err_retryable(e->code)));
}
