/* joblog.h - a job's log: a line of JSON for each event, with a level. */
#ifndef API_JOBLOG_H
#define API_JOBLOG_H

#include "core/base/buf.h"
#include "core/base/log.h"
#include "storage/result.h"

/* Appends the event's line, unless its level is below `least`.  False: no memory. */
bool joblog_add(struct buf *out, const struct event *event, enum log_level least);

#endif
