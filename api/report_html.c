/* report_html.c - the report as one page: what was asked, what came of it, where the errors are, every layer. */
#include "api/report.h"

#include "core/base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"Content-Security-Policy\" "
    "content=\"default-src 'none'; style-src 'unsafe-inline'\"><meta name=\"viewport\" content=\"width=device-width\"><title>";
static const char style[] =
    "</title><style>body{font:15px/1.45 sans-serif;color:#111;background:#fff;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "main{overflow-wrap:anywhere}table{border-collapse:collapse;margin:1rem 0}th,td{border:1px solid #bbb;padding:.2rem .5rem;text-align:left}"
    "td.n{text-align:right;font-variant-numeric:tabular-nums}thead th{background:#eee}.wide{overflow-x:auto;overflow-wrap:normal}"
    "figure{margin:1.5rem 0}svg{display:block}pre{background:#f4f4f4;padding:.6rem;white-space:pre-wrap}"
    "@media print{.wide{overflow:visible;font-size:8px}svg{max-width:100%;height:auto}}</style></head><body><main>\n";

void report_text(struct buf *out, const char *text)
{
    static const char *const entity[128] = { ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['"'] = "&quot;", ['\''] = "&#39;" };
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 128 && entity[c])
            buf_str(out, entity[c]);
        else if (c < 0x20 || c == 0x7f)
            buf_str(out, c == '\n' ? "\n" : "\xef\xbf\xbd");
        else
            buf_add(out, text, 1);
    }
}

void report_number(struct buf *out, const json_t *x)
{
    if (json_is_integer(x))
        buf_printf(out, "%lld", (long long)json_integer_value(x));
    else if (json_is_real(x))
        buf_printf(out, "%.4g", json_real_value(x));
    else
        buf_str(out, "\xe2\x80\x93");
}

static void cell(struct buf *out, const json_t *x)
{
    bool text = json_is_string(x);
    buf_str(out, text ? "<td>" : "<td class=\"n\">");
    if (text)
        report_text(out, json_string_value(x));
    else
        report_number(out, x);
    buf_str(out, "</td>");
}

static void row(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, "<tr><th scope=\"row\">%s</th><td>", name);
    report_text(out, text);
    buf_str(out, "</td></tr>\n");
}

__attribute__((format(printf, 3, 4)))
static void row_printed(struct buf *out, const char *name, const char *fmt, ...)
{
    char text[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    row(out, name, text);
}

static double sum(const json_t *layers, const char *member)
{
    double all = 0;
    for (size_t i = 0; i < json_array_size(layers); i++)
        all += json_number_value(json_object_get(json_array_get(layers, i), member));
    return all;
}

/* Layers that are not float any more. */
static size_t quantized(const json_t *layers)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const char *actual = json_string_value(json_object_get(json_array_get(layers, i), "actual_precision"));
        n += actual && strcmp(actual, "float") != 0;
    }
    return n;
}

/* A member of an object in JSON text; "" if there is none. */
static void text_member(const char *json, const char *member, char *ret, size_t size)
{
    json_t *object = json ? json_read(json, 0) : NULL;
    const char *text = json_string_value(json_object_get(object, member));
    snprintf(ret, size, "%s", text ? text : "");
    json_decref(object);
}

static void add_facts(const struct report *r, struct buf *out)
{
    char at[CLOCK_RFC3339_SIZE], engine[64];
    const struct job *j = r->job;
    double before = sum(r->layers, "bytes_before"), after = sum(r->layers, "bytes_after");
    text_member(j->engine, "version", engine, sizeof engine);
    buf_str(out, "<table><tbody>\n");
    row(out, "Job", j->id);
    row(out, "Model", r->model);
    row(out, "Calibration", r->dataset);
    row(out, "Finished", clock_rfc3339(j->at[JOB_SUCCEEDED], at));
    row_printed(out, "Took", "%.1f s", (double)(j->at[JOB_SUCCEEDED] - j->at[JOB_RUNNING]) / 1e6);
    row(out, "Engine", *engine ? engine : "unknown");
    row_printed(out, "Layers quantized", "%zu of %zu", quantized(r->layers), json_array_size(r->layers));
    if (before > 0)
        row_printed(out, "Weights", "%.0f bytes became %.0f (%.3f)", before, after, after / before);
    row_printed(out, "Warnings", "%d", j->warnings);
    buf_str(out, "</tbody></table>\n");
}

static void add_metrics(const struct metric_list *m, struct buf *out)
{
    if (!m->n)
        return;
    buf_str(out, "<h2>Accuracy</h2>\n<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Accuracy\"><table>"
                 "<thead><tr><th>metric</th><th>float</th><th>quantized</th><th>difference</th><th>samples</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < m->n; i++) {
        const struct metric *x = &m->items[i];
        double values[] = { x->x_float, x->x_quantized, x->x_quantized - x->x_float };
        buf_str(out, "<tr><td>");
        report_text(out, x->name);
        buf_str(out, "</td>");
        for (int k = 0; k < 3; k++) {
            json_t *number = json_finite(values[k]);
            cell(out, number);
            json_decref(number);
        }
        buf_printf(out, "<td class=\"n\">%lld</td></tr>\n", (long long)x->samples);
    }
    buf_str(out, "</tbody></table></div>\n");
}

static void add_warnings(const json_t *warnings, struct buf *out)
{
    if (!json_array_size(warnings))
        return;
    buf_str(out, "<h2>Warnings</h2>\n<ul>\n");
    for (size_t i = 0; i < json_array_size(warnings); i++) {
        const json_t *w = json_array_get(warnings, i);
        const char *code = json_string_value(json_object_get(w, "code")), *detail = json_string_value(json_object_get(w, "detail"));
        buf_str(out, "<li><code>");
        report_text(out, code ? code : "");
        buf_str(out, "</code> ");
        report_text(out, detail ? detail : "");
        buf_str(out, "</li>\n");
    }
    buf_str(out, "</ul>\n");
}

static void add_plots(const struct report *r, struct buf *out)
{
    enum { MOST = 24 };
    static const struct report_series errors[] = { { "accumulated_sqnr_db", "whole network so far", "#0072b2" }, { "isolated_sqnr_db", "this layer alone", "#d55e00" } };
    static const struct report_series bytes[] = { { "bytes_before", "before", "#999999" }, { "bytes_after", "after", "#009e73" } };
    buf_str(out, "<h2>Where the errors are</h2>\n");
    report_bars(out, r->layers, "Layers with the lowest SQNR, in dB: the quantized network up to this layer against the float one, and the layer alone", errors, 2, true, MOST);
    report_lines(out, r->layers, "SQNR in dB along the network", errors, 2);
    buf_str(out, "<h2>Where the bytes are</h2>\n");
    report_bars(out, r->layers, "Largest layers: bytes of their weights before and after", bytes, 2, false, MOST);
}

static void add_layers(const json_t *layers, struct buf *out)
{
    static const char *const columns[][2] = {
        { "index", "#" }, { "name", "layer" }, { "op", "op" }, { "role", "role" }, { "actual_precision", "precision" }, { "skip_reason", "stays float because" },
        { "weight_sqnr_db", "weights dB" }, { "isolated_sqnr_db", "alone dB" }, { "accumulated_sqnr_db", "accumulated dB" }, { "cosine", "cosine" },
        { "channel_range_ratio_before", "range ratio before" }, { "channel_range_ratio_after", "after" }, { "saturation_pct", "clipped %" },
        { "bytes_before", "bytes before" }, { "bytes_after", "after" },
    };
    enum { COLUMNS = sizeof columns / sizeof columns[0] };
    buf_str(out, "<h2>Layers</h2>\n<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Layers\"><table><thead><tr>");
    for (int c = 0; c < COLUMNS; c++)
        buf_printf(out, "<th scope=\"col\">%s</th>", columns[c][1]);
    buf_str(out, "</tr></thead><tbody>\n");
    for (size_t i = 0; i < json_array_size(layers); i++) {
        buf_str(out, "<tr>");
        for (int c = 0; c < COLUMNS; c++)
            cell(out, json_object_get(json_array_get(layers, i), columns[c][0]));
        buf_str(out, "</tr>\n");
    }
    buf_str(out, "</tbody></table></div>\n");
}

static void add_recipe(const char *recipe, struct buf *out)
{
    json_t *json = recipe ? json_read(recipe, JSON_DECODE_ANY) : NULL;
    char *text = json ? json_text(json, JSON_INDENT(2) | JSON_REAL_PRECISION(9) | JSON_ENCODE_ANY) : NULL;
    buf_str(out, "<h2>Recipe</h2>\n<pre>");
    report_text(out, text ? text : "");
    buf_str(out, "</pre>\n</main></body></html>\n");
    free(text);
    json_decref(json);
}

void report_html(const struct report *r, struct buf *out)
{
    char recipe[64];
    text_member(r->job->recipe, "name", recipe, sizeof recipe);
    buf_str(out, head);
    report_text(out, r->model);
    buf_str(out, " \xc2\xb7 ");
    report_text(out, *recipe ? recipe : "recipe");
    buf_str(out, style);
    buf_str(out, "<h1>");
    report_text(out, r->model);
    buf_str(out, ", ");
    report_text(out, *recipe ? recipe : "quantized");
    buf_str(out, "</h1>\n");
    add_facts(r, out);
    add_metrics(&r->metrics, out);
    add_warnings(r->warnings, out);
    add_plots(r, out);
    add_layers(r->layers, out);
    add_recipe(r->job->recipe, out);
}
