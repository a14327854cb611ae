/* labels.h - labels.csv of an image data set: "file,label" and one line for each picture.  Private to core/data. */
#ifndef CORE_DATA_LABELS_H
#define CORE_DATA_LABELS_H

#include "core/base/arena.h"

struct labels {
    struct label { const char *file; int64_t value; } *items;      /* sorted by file */
    size_t n;
};

/* Other columns are passed over; a field may stand in double quotes.  ERR_DATA_FORMAT names the line. */
bool labels_parse(struct arena *mem, const char *csv, size_t n, struct labels *ret, struct err *e);

/* False if there is none of this file. */
bool labels_find(const struct labels *l, const char *file, int64_t *ret);

#endif
