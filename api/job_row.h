/* job_row.h - a job as clients see it. */
#ifndef API_JOB_ROW_H
#define API_JOB_ROW_H

#include "api/request.h"
#include "storage/job.h"

/* The caller decrefs; NULL without memory.  A list (whole == false) has the same members but the large ones. */
json_t *job_json(const struct job *job, bool whole);

/* The whole job but for the documents that are stored as JSON: these move from the job to the reply, where they are not parsed, and keep all
 * digits they have; job_json() gives nine. */
json_t *job_json_moving(struct job *job, struct reply *reply);

/* The whole job, as above; 202 names it in Location.  Always true, or false with *e: `return reply_job(...)`. */
bool reply_job(struct reply *reply, int status, struct job *job, struct err *e);

#endif
