/* job_row.h - a job as clients see it. */
#ifndef API_JOB_ROW_H
#define API_JOB_ROW_H

#include "api/request.h"
#include "storage/job.h"

/* The caller decrefs; NULL without memory.  A list (whole == false) has the same members but the large ones. */
json_t *job_json(const struct job *job, bool whole);

/* The whole job but for what is stored as JSON, which moves from the job to the reply. */
json_t *job_json_for(struct reply *reply, struct job *job);

/* The whole job, as above; 202 names it in Location.  Always true, or false with *e: `return reply_job(...)`. */
bool reply_job(struct reply *reply, int status, struct job *job, struct err *e);

#endif
