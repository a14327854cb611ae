/* report_svg.c - plots as SVG inside the page: shapes and text, no script, no style of their own. */
#include "api/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 860, LABELS = 250, BAR = 11, GAP = 5, TOP = 34, HEIGHT = 260, LABEL_CHARS = 38 };

static double value_of(const json_t *layer, const char *member)
{
    const json_t *x = json_object_get(layer, member);
    return json_is_number(x) ? json_number_value(x) : (double)NAN;
}

/* The last characters of a name, which tell layers apart; whole code points. */
static void add_label(struct buf *out, const char *name)
{
    size_t chars = 0;
    const char *start = name + strlen(name);
    while (start > name && chars < LABEL_CHARS) {
        start--;
        chars += ((unsigned char)*start & 0xc0) != 0x80;
    }
    buf_str(out, start > name ? "\xe2\x80\xa6" : "");
    report_text(out, start);
}

static void open_plot(struct buf *out, const char *title, int height, const struct report_series *series, int n)
{
    buf_printf(out, "<figure><div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"%s\">", title);
    buf_printf(out, "<svg role=\"img\" viewBox=\"0 0 %d %d\" width=\"%d\" font-family=\"sans-serif\" font-size=\"11\"><title>%s</title>",
               WIDTH, height, WIDTH, title);
    for (int s = 0, x = LABELS; s < n; s++, x += 190)
        buf_printf(out, "<rect x=\"%d\" y=\"8\" width=\"10\" height=\"10\" fill=\"%s\"/><text x=\"%d\" y=\"17\">%s</text>", x, series[s].color, x + 15, series[s].label);
}

static void close_plot(struct buf *out, const char *title) { buf_printf(out, "</svg></div><figcaption>%s</figcaption></figure>\n", title); }

struct entry { const json_t *layer; double x; };
static int by_value(const void *a, const void *b)
{
    double x = ((const struct entry *)a)->x, y = ((const struct entry *)b)->x;
    return (x > y) - (x < y);
}

/* The layers that have the member, smallest first; malloc'd. */
static struct entry *ordered(const json_t *layers, const char *member, bool smallest, size_t *ret_n)
{
    size_t all = json_array_size(layers);
    struct entry *list = calloc(all + 1, sizeof *list);
    *ret_n = 0;
    if (!list)
        return NULL;
    for (size_t i = 0; i < all; i++) {
        double x = value_of(json_array_get(layers, i), member);
        if (isfinite(x))
            list[(*ret_n)++] = (struct entry){ json_array_get(layers, i), smallest ? x : -x };
    }
    if (*ret_n)
        qsort(list, *ret_n, sizeof *list, by_value);
    return list;
}

static void add_row_of_bars(struct buf *out, const json_t *layer, int y, double scale, const struct report_series *series, int n)
{
    buf_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", LABELS - 6, y + BAR * n / 2 + 4);
    add_label(out, json_string_value(json_object_get(layer, "name")) ? json_string_value(json_object_get(layer, "name")) : "");
    buf_str(out, "</text>");
    for (int s = 0; s < n; s++) {
        double x = value_of(layer, series[s].member), w = isfinite(x) ? fmax(0, x) * scale : 0;
        buf_printf(out, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/><text x=\"%.1f\" y=\"%d\">", LABELS, y + s * BAR, w, BAR - 1, series[s].color,
                   LABELS + w + 4, y + s * BAR + BAR - 2);
        report_number(out, json_object_get(layer, series[s].member));
        buf_str(out, "</text>");
    }
}

void report_bars(struct buf *out, const json_t *layers, const char *title, const struct report_series *series, int n, bool smallest, int most)
{
    size_t count;
    struct entry *list = ordered(layers, series[0].member, smallest, &count);
    int rows = !list ? 0 : count < (size_t)most ? (int)count : most, step = BAR * n + GAP;
    double top = 0;
    for (int i = 0; i < rows; i++)
        for (int s = 0; s < n; s++)
            top = fmax(top, value_of(list[i].layer, series[s].member));         /* fmax() passes NaN over */
    if (rows) {
        open_plot(out, title, TOP + rows * step, series, n);
        for (int i = 0; i < rows; i++)
            add_row_of_bars(out, list[i].layer, TOP + i * step, top > 0 ? (WIDTH - LABELS - 70) / top : 0, series, n);
        close_plot(out, title);
    }
    free(list);
}

/* A gap where a layer has no value. */
static void add_line(struct buf *out, const json_t *layers, const struct report_series *s, double lo, double hi)
{
    size_t n = json_array_size(layers);
    bool drawing = false;
    buf_printf(out, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" d=\"", s->color);
    for (size_t i = 0; i < n; i++) {
        double x = value_of(json_array_get(layers, i), s->member);
        if (isfinite(x))
            buf_printf(out, "%c%.1f %.1f", drawing ? 'L' : 'M', 50 + (WIDTH - 70) * ((double)i + 0.5) / (double)n, TOP + (HEIGHT - TOP - 24) * (hi - x) / (hi - lo));
        drawing = isfinite(x);
    }
    buf_str(out, "\"/>");
}

static void add_scale(struct buf *out, double lo, double hi)
{
    enum { LINES = 5 };
    for (int i = 0; i < LINES; i++) {
        double x = hi - (hi - lo) * i / (LINES - 1), y = TOP + (double)(HEIGHT - TOP - 24) * i / (LINES - 1);
        buf_printf(out, "<path d=\"M50 %.1fH%d\" stroke=\"#ccc\"/><text x=\"44\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>", y, WIDTH - 20, y + 4, x);
    }
    buf_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">layers in the model's order</text>", WIDTH / 2, HEIGHT - 4);
}

void report_lines(struct buf *out, const json_t *layers, const char *title, const struct report_series *series, int n)
{
    double lo = INFINITY, hi = -INFINITY;
    for (size_t i = 0; i < json_array_size(layers); i++)
        for (int s = 0; s < n; s++) {
            double x = value_of(json_array_get(layers, i), series[s].member);
            lo = fmin(lo, x);
            hi = fmax(hi, x);
        }
    if (!isfinite(lo) || !isfinite(hi))
        return;
    if (hi - lo < 1e-9 * fmax(1, fabs(hi)))
        hi = lo + 1;
    open_plot(out, title, HEIGHT, series, n);
    add_scale(out, lo, hi);
    for (int s = 0; s < n; s++)
        add_line(out, layers, &series[s], lo, hi);
    close_plot(out, title);
}
