/*
 * problem.h - an error as the JSON object that clients see: the `problem` of a job.  The same
 * members as a problem document over HTTP, which adds what only HTTP knows.
 */
#ifndef STORAGE_PROBLEM_H
#define STORAGE_PROBLEM_H

#include "core/base/err.h"

/* {"code", "title", "status", "detail", "where", "retryable"}, malloc'd; NULL without memory. */
char *problem_text(const struct err *e);

#endif
