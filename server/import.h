/*
 * import.h - uploads whose bytes the daemon fetches itself, from hosts the operator lists.
 *
 * An import is an upload (storage/upload.h) from its first moment: its disk space is taken, it can be watched, ended and expires, and
 * its bytes become a blob when the last one has come and their digest is the announced one.
 */
#ifndef SERVER_IMPORT_H
#define SERVER_IMPORT_H

#include "server/config.h"
#include "storage/upload.h"

struct importer;
struct outbound;

struct importer *importer_start(const struct config *config, struct store *store, struct outbound *outbound, struct err *e);
/* From now on everything is ERR_DRAINING, what runs too; returns at once. */
void importer_drain(struct importer *i);
void importer_stop(struct importer *i);             /* NULL is fine */

/* Makes the upload and queues the transfer.  want: "sha256:..." or NULL.  ERR_TARGET, ERR_BUSY, and as upload_begin(). */
bool importer_add(struct importer *i, const char *team, const char *url, const char *want, struct upload *ret, struct err *e);

#endif
