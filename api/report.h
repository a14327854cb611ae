/*
 * report.h - a job's report for people, of the numbers in the database: a table (CSV), and one HTML file that needs no network and no
 * script.  report.json, the job's own file, is not read.
 *
 * Names in it are a stranger's (a model's nodes): text is escaped in HTML, and in CSV a cell that a spreadsheet would run begins with '.
 */
#ifndef API_REPORT_H
#define API_REPORT_H

#include "core/base/buf.h"
#include "core/base/json.h"
#include "storage/job.h"
#include "storage/result.h"

struct report {
    const struct job *job;
    char model[256], dataset[256];      /* names; ids where they have been deleted */
    json_t *layers;                     /* rows in the model's order, each with "index" */
    json_t *warnings;                   /* the data of job.warning events */
    struct metric_list metrics;
};
enum { REPORT_MAX = 64 << 20 };

void report_csv(const struct report *r, struct buf *out);
void report_html(const struct report *r, struct buf *out);

/* report_svg.c: plots of members of layers. */
struct report_series { const char *member, *label, *color; };
/* Bars of one or two members for at most `most` layers, those with the smallest or largest first value first. */
void report_bars(struct buf *out, const json_t *layers, const char *title, const struct report_series *series, int n, bool smallest, int most);
/* Lines over the layers' order. */
void report_lines(struct buf *out, const json_t *layers, const char *title, const struct report_series *series, int n);

/* Text between tags or in quotes. */
void report_text(struct buf *out, const char *text);
/* A number as people read it, a dash for null. */
void report_number(struct buf *out, const json_t *x);

#endif
