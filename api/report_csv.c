/* report_csv.c - one line for each layer; RFC 4180. */
#include "api/report.h"

#include <string.h>

/* The layer row of the contract, in its order. */
static const char *const columns[] = {
    "index", "name", "op", "block", "role", "part", "weight_bits", "act_bits", "planned_precision", "actual_precision", "skip_reason", "weight_sqnr_db",
    "output_sqnr_db", "output_mse", "cosine", "isolated_sqnr_db", "accumulated_sqnr_db", "act_min", "act_max", "channel_range_ratio_before",
    "channel_range_ratio_after", "saturation_pct", "params", "bytes_before", "bytes_after", "seconds",
};
enum { COLUMNS = sizeof columns / sizeof columns[0] };

/* What a spreadsheet would take for a formula gets an apostrophe in front. */
static void add_string(struct buf *out, const char *text)
{
    buf_str(out, strchr("=+-@\t\r", *text) && *text ? "\"'" : "\"");
    for (; *text; text++)
        if (*text == '"')
            buf_str(out, "\"\"");
        else
            buf_add(out, text, 1);
    buf_str(out, "\"");
}

static void add_cell(struct buf *out, const json_t *x)
{
    if (json_is_string(x))
        add_string(out, json_string_value(x));
    else if (json_is_integer(x))
        buf_printf(out, "%lld", (long long)json_integer_value(x));
    else if (json_is_real(x))
        buf_printf(out, "%.9g", json_real_value(x));
}

void report_csv(const struct report *r, struct buf *out)
{
    for (int c = 0; c < COLUMNS; c++)
        buf_printf(out, "%s%s", c ? "," : "", columns[c]);
    buf_str(out, "\r\n");
    for (size_t i = 0; i < json_array_size(r->layers); i++) {
        for (int c = 0; c < COLUMNS; c++) {
            buf_str(out, c ? "," : "");
            add_cell(out, json_object_get(json_array_get(r->layers, i), columns[c]));
        }
        buf_str(out, "\r\n");
    }
}
