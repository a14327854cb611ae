/*
 * progress.h - events as people and programs want them: a bar on a terminal, NDJSON lines, or nothing.
 *
 * The lines are those of docs/job.md: at most 16 KiB each, one write each.
 */
#ifndef CORE_CLI_PROGRESS_H
#define CORE_CLI_PROGRESS_H

#include "core/report/events.h"

#include <stdio.h>

enum progress_kind { PROGRESS_NONE, PROGRESS_BAR, PROGRESS_JSON };

struct progress {
    enum progress_kind kind;
    int fd;                            /* where lines or the bar go */
    struct events events;              /* hand this to the pipeline */
    char stage[16];
    int64_t last_us;                   /* when the last progress line went out */
    int warnings;
};


void progress_init(struct progress *p, enum progress_kind kind, int fd);
/* Ends the bar's line. */
void progress_end(struct progress *p);

/* The two last lines of a job. */
void progress_done(struct progress *p, const char *const *files, size_t n);
void progress_problem(struct progress *p, const struct err *e);

#endif
