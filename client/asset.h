/*
 * asset.h - models and data sets of the service by what they hold: the same files are the same model, however often a command is run.
 */
#ifndef CLIENT_ASSET_H
#define CLIENT_ASSET_H

#include "client/upload.h"

enum asset_kind { MODEL, DATASET };

/* The oldest one that holds exactly these files (and has this name, where one is given), or a new one; its id into ret.  The bytes are
 * sent where that is needed. */
bool asset_obtain(struct client *c, enum asset_kind kind, const struct source *files, int n, const char *name, char *ret, size_t size);

#endif
