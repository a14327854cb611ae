/*
 * report.h - a job's report for people, of the numbers in the database: a table (CSV), and one HTML file that needs no network.
 * report.json, the job's own file, is not read.
 *
 * Names in it are a stranger's (a model's nodes): in HTML they are text to the scripts, which are let run by their digest, and in CSV a cell that a spreadsheet would run begins with '.
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

#endif
