/*
 * backup.h - copies of a data folder, made while a daemon serves it, and what is needed to trust and use them.
 *
 *     TO/manifest.json         written last: what the backup is; a folder without it is none yet
 *     TO/<64 hex>.db           the database, by its SHA-256; it lists the blobs
 *     TO/blobs/<2 hex>/<64 hex>     as in the data folder
 *     TO/lock                  flock'ed by whoever writes here
 *
 * A backup is the database as it was at one moment, and all bytes it names: everything that was acknowledged before the
 * command began is in it.  Into the folder of an earlier backup only new bytes are copied; that one stays whole until the
 * manifest of the new one replaces its own, and what only it needed is removed then.  Tokens of the
 * service are in it as their hashes; the file `token` is not copied.
 *
 * While a backup runs the daemon removes no blobs: both hold DIR/backup (store.h).
 */
#ifndef STORAGE_BACKUP_H
#define STORAGE_BACKUP_H

#include "core/base/err.h"

#include <stdint.h>

struct backup_sum { uint64_t blobs, bytes, copied; };

/* data: a data folder, with or without a daemon.  Bytes that have rotted there end it with ERR_IO, named; `to` is then as it was. */
bool backup_make(const char *data, const char *to, const char *version, struct backup_sum *ret, struct err *e);

/* Reads everything: a backup, or a data folder while it is served.  tell() hears of each damage; any makes the result false. */
typedef void backup_tell_fn(void *arg, const struct err *damage);
bool backup_verify(const char *folder, backup_tell_fn *tell, void *arg, struct backup_sum *ret, struct err *e);

/* Into a data folder that is empty or absent.  All bytes are verified on the way; the database comes last. */
bool backup_restore(const char *from, const char *data, struct backup_sum *ret, struct err *e);

#endif
