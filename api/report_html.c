/*
 * report_html.c - the report as one page: the dashboard's own parts and Chart.js, with the job's numbers beside them.
 *
 * The page may run these two scripts, by their digests, and nothing else; names in the numbers are a stranger's, and what ends a script is
 * escaped in them.
 */
#include "api/embed.h"
#include "api/job_row.h"
#include "api/report.h"

#include "core/base/hash.h"

#include <stdlib.h>

static struct embedded file(const char *name)
{
    struct embedded ret = { "", 0 };
    const char *type;
    embed_dashboard(name, &ret, &type);
    return ret;
}

/* Text between tags. */
static void add_text(struct buf *out, const char *text)
{
    for (; *text; text++)
        if (*text == '&' || *text == '<')
            buf_str(out, *text == '&' ? "&amp;" : "&lt;");
        else
            buf_add(out, (unsigned char)*text < 0x20 ? " " : text, 1);
}

/* As a source in a content security policy (CSP Level 3, 2.3.1). */
static void add_digest(struct buf *out, struct embedded f)
{
    uint8_t digest[HASH_SIZE];
    hash_bytes(f.data, f.size, digest);
    char *text = base64_encode(digest, sizeof digest);
    buf_printf(out, " 'sha256-%s'", text ? text : "");
    free(text);
}

static void add_policy(struct buf *out, struct embedded style, struct embedded chart, struct embedded page)
{
    buf_str(out, "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; base-uri 'none'; form-action 'none'; "
                 "require-trusted-types-for 'script'; style-src");
    add_digest(out, style);
    buf_str(out, "; script-src");
    add_digest(out, chart);
    add_digest(out, page);
    buf_str(out, "\">\n");
}

/* All of them, or NULL. */
static json_t *metrics_json(const struct metric_list *m)
{
    json_t *all = json_object();
    bool ok = all;
    for (size_t i = 0; ok && i < m->n; i++)
        ok = json_object_set_new(all, m->items[i].name, metric_json(m->items[i].x_float, m->items[i].x_quantized, m->items[i].samples)) == 0;
    if (ok)
        return all;
    json_decref(all);
    return NULL;
}

/* In JSON '<' is only found within strings, where its escape means the same. */
static void add_numbers(struct buf *out, const struct report *r)
{
    json_t *numbers = json_pack("{s:o, s:s, s:s, s:o, s:O, s:O}", "job", job_json(r->job, true), "model", r->model, "dataset", r->dataset,
                                "metrics", metrics_json(&r->metrics), "layers", r->layers, "warnings", r->warnings);
    char *text = numbers ? json_text(numbers, JSON_COMPACT) : NULL;
    if (!text)
        out->bad = true;
    for (const char *at = text; at && *at; at++)
        if (*at == '<')
            buf_str(out, "\\u003c");
        else
            buf_add(out, at, 1);
    free(text);
    json_decref(numbers);
}

void report_html(const struct report *r, struct buf *out)
{
    struct embedded style = file("style.css"), chart = file("chart.min.js"), page = file("offline.js");
    buf_str(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    add_policy(out, style, chart, page);
    buf_str(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>");
    add_text(out, r->model);
    buf_str(out, ", quantized</title>\n<style>");
    buf_add(out, style.data, style.size);
    buf_str(out, "</style></head>\n<body><main id=\"main\"><noscript><h1>Report</h1><p>This page draws itself: open it where JavaScript may run."
                 "</p></noscript></main>\n<script type=\"application/json\" id=\"numbers\">");
    add_numbers(out, r);
    buf_str(out, "</script>\n<script>");
    buf_add(out, chart.data, chart.size);
    buf_str(out, "</script>\n<script type=\"module\">");
    buf_add(out, page.data, page.size);
    buf_str(out, "</script></body></html>\n");
}
