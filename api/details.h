/* details.h - one layer's entry of a details.json, without parsing the others. */
#ifndef API_DETAILS_H
#define API_DETAILS_H

#include "core/base/json.h"

#include <stddef.h>

/*
 * details.json is a list of objects with a member "index", alone or as the first list of an object.  It is a job's product and
 * may have hundreds of entries of tens of kilobytes, so only one is parsed at a time and one of more than a
 * megabyte is refused.  New; NULL with *e NOT_FOUND if no entry has this index.
 */
json_t *details_find(const char *text, size_t n, int64_t index, struct err *e);

#endif
