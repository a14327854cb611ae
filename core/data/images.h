/*
 * images.h - pictures with labels.csv and preprocess.json, in a zip archive or a folder, as a data set: one float32 array
 * [N,3,H,W] (or [N,H,W,3]), named as preprocess.json says, and `labels` [N] where there is a labels.csv.  Private to core/data.
 *
 * Pictures are taken in the order of their names' bytes.  One is decoded at a time.  The names are keys: nothing is ever
 * written under one, and in a folder no link is followed.
 */
#ifndef CORE_DATA_IMAGES_H
#define CORE_DATA_IMAGES_H

#include "core/data/dataset.h"
#include "core/data/zip.h"

enum { IMAGES_MAX = 20000 };

/* Whether an archive holds pictures rather than arrays. */
bool images_in_zip(const struct zip *z);

bool images_open_zip(struct arena *mem, const struct zip *z, const char *name, struct dataset *ret, struct err *e);

#endif
