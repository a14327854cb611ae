/*
 * schema.c - the tables, as numbered steps that were never edited after a release.
 *
 * PRAGMA user_version counts the steps a file has seen.  A step and its number are one
 * transaction, so a crash leaves the old schema or the new one.  To change the schema, append a step.
 */
#include "storage/db.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

/* The code in the database: as it stands in sqlite_schema, without the last semicolon. */
#define AUDIT_KEEPS_ITS_ROWS "CREATE TRIGGER audit_keeps_its_rows BEFORE DELETE ON audit"                     \
    " WHEN OLD.seq > (SELECT coalesce(max(CAST(target AS INTEGER)), 0) FROM audit WHERE action = 'audit.forgotten')" \
    " BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
#define AUDIT_KEEPS_THEM_AS_THEY_ARE "CREATE TRIGGER audit_keeps_them_as_they_are BEFORE UPDATE ON audit"     \
    " BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"

static const char *const steps[] = {
    /* 1: everything.  Claim token, lease, attempt and boot id are here from the start: a queue
     * without them cannot be made safe later. */
    "CREATE TABLE blobs ("
    "  digest TEXT PRIMARY KEY CHECK (length(digest) = 71),"
    "  size INTEGER NOT NULL CHECK (size >= 0)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE blob_owners ("
    "  team TEXT NOT NULL, digest TEXT NOT NULL REFERENCES blobs, created_at INTEGER NOT NULL,"
    "  PRIMARY KEY (team, digest)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX blob_owners_digest ON blob_owners (digest);"

    "CREATE TABLE assets ("
    "  id TEXT PRIMARY KEY, team TEXT NOT NULL, kind TEXT NOT NULL CHECK (kind IN ('model', 'dataset')),"
    "  name TEXT NOT NULL, format TEXT NOT NULL, digest TEXT NOT NULL, bytes INTEGER NOT NULL,"
    "  created_at INTEGER NOT NULL, inventory TEXT NOT NULL"
    ") STRICT;"
    "CREATE INDEX assets_team ON assets (team, kind, id);"
    "CREATE TABLE asset_files ("
    "  asset_id TEXT NOT NULL REFERENCES assets ON DELETE CASCADE, position INTEGER NOT NULL,"
    "  team TEXT NOT NULL, path TEXT NOT NULL, digest TEXT NOT NULL REFERENCES blobs, size INTEGER NOT NULL,"
    "  PRIMARY KEY (asset_id, position), UNIQUE (asset_id, path)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX asset_files_digest ON asset_files (digest, team);"

    "CREATE TABLE jobs ("
    "  id TEXT PRIMARY KEY, team TEXT NOT NULL, type TEXT NOT NULL,"
    "  model_id TEXT NOT NULL, dataset_id TEXT NOT NULL, eval_dataset_id TEXT NOT NULL DEFAULT '',"
    "  retry_of TEXT NOT NULL DEFAULT '', recipe TEXT NOT NULL, labels TEXT NOT NULL DEFAULT '{}',"
    "  priority INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL,"
    "  state TEXT NOT NULL DEFAULT 'queued'"
    "    CHECK (state IN ('queued', 'running', 'canceling', 'canceled', 'failed', 'succeeded')),"
    "  queued_at INTEGER NOT NULL, running_at INTEGER, canceling_at INTEGER, canceled_at INTEGER,"
    "  failed_at INTEGER, succeeded_at INTEGER, cancel_requested_at INTEGER,"
    "  attempt INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),"
    "  claim_token INTEGER NOT NULL DEFAULT 0, lease_until INTEGER NOT NULL DEFAULT 0,"
    "  boot_id TEXT NOT NULL DEFAULT '', worker TEXT NOT NULL DEFAULT '',"
    "  stage TEXT NOT NULL DEFAULT '', done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0,"
    "  warnings INTEGER NOT NULL DEFAULT 0, engine TEXT, problem TEXT, summary TEXT"
    ") STRICT;"
    "CREATE INDEX jobs_team ON jobs (team, id, state);"         /* with the state, so that filters skip without a seek */
    "CREATE INDEX jobs_queued ON jobs (priority DESC, id) WHERE state = 'queued';"
    "CREATE INDEX jobs_live ON jobs (lease_until) WHERE state IN ('running', 'canceling');"
    "CREATE INDEX jobs_state ON jobs (state, team, queued_at);"
    "CREATE TABLE idempotency ("
    "  team TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, resource_id TEXT NOT NULL,"
    "  created_at INTEGER NOT NULL, PRIMARY KEY (team, key)"
    ") STRICT, WITHOUT ROWID;"

    "CREATE TABLE events ("
    "  job_id TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE, seq INTEGER NOT NULL, team TEXT NOT NULL,"
    "  at INTEGER NOT NULL, type TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY (job_id, seq)"
    ") STRICT;"
    "CREATE TABLE layers ("
    "  job_id TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE, idx INTEGER NOT NULL, team TEXT NOT NULL,"
    "  row TEXT NOT NULL, PRIMARY KEY (job_id, idx)"
    ") STRICT;"
    "CREATE TABLE metrics ("
    "  job_id TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE, name TEXT NOT NULL, team TEXT NOT NULL,"
    "  x_float REAL, x_quantized REAL, samples INTEGER NOT NULL, PRIMARY KEY (job_id, name)"
    ") STRICT;"
    "CREATE TABLE artifacts ("
    "  id TEXT PRIMARY KEY, team TEXT NOT NULL, job_id TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,"
    "  name TEXT NOT NULL, media_type TEXT NOT NULL, digest TEXT NOT NULL REFERENCES blobs,"
    "  size INTEGER NOT NULL, created_at INTEGER NOT NULL, UNIQUE (job_id, name)"
    ") STRICT;"
    "CREATE INDEX artifacts_digest ON artifacts (digest, team);"

    "CREATE TABLE tokens ("
    "  id TEXT PRIMARY KEY, team TEXT NOT NULL, name TEXT NOT NULL, scopes TEXT NOT NULL,"
    "  hash TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL DEFAULT 0,"
    "  last_used_at INTEGER NOT NULL DEFAULT 0"
    ") STRICT;"
    "CREATE INDEX tokens_team ON tokens (team, id);",

    /* 2: uploads in parts, and the disk space that a job which has not ended will need */
    "CREATE TABLE uploads ("
    "  id TEXT PRIMARY KEY, team TEXT NOT NULL, length INTEGER NOT NULL, offset INTEGER NOT NULL, hash TEXT NOT NULL,"
    "  want TEXT NOT NULL, metadata TEXT NOT NULL, source TEXT NOT NULL DEFAULT '', digest TEXT NOT NULL DEFAULT '',"
    "  problem TEXT, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL"
    ") STRICT;"
    "CREATE INDEX uploads_team ON uploads (team, id);"
    "CREATE INDEX uploads_expiry ON uploads (expires_at);"
    "ALTER TABLE jobs ADD COLUMN reserved INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX jobs_reserved ON jobs (reserved) WHERE state IN ('queued', 'running', 'canceling');",

    /* 3: teams have rows of their own, with what they may use (NULL: no limit); those that are in use already get theirs. */
    "CREATE TABLE teams ("
    "  name TEXT PRIMARY KEY, created_at INTEGER NOT NULL,"
    "  max_running INTEGER CHECK (max_running >= 0), max_queued INTEGER CHECK (max_queued >= 0),"
    "  max_bytes INTEGER CHECK (max_bytes >= 0)"
    ") STRICT, WITHOUT ROWID;"
    "INSERT INTO teams (name, created_at)"
    "  SELECT team, min(at) FROM (SELECT team, created_at AS at FROM tokens UNION ALL SELECT team, created_at FROM blob_owners"
    "  UNION ALL SELECT team, queued_at FROM jobs UNION ALL SELECT 'local', unixepoch() * 1000000) GROUP BY team;"
    "ALTER TABLE tokens ADD COLUMN created_by TEXT NOT NULL DEFAULT '';",

    /* 4: the audit log, see audit.h. */
    "CREATE TABLE audit ("
    "  seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, request TEXT NOT NULL, team TEXT NOT NULL, token TEXT NOT NULL,"
    "  session TEXT NOT NULL, peer TEXT NOT NULL, method TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL,"
    "  status INTEGER NOT NULL, code TEXT NOT NULL, prev TEXT NOT NULL, hash TEXT NOT NULL"
    ") STRICT;"
    "CREATE INDEX audit_team ON audit (team, seq);"
    "CREATE TRIGGER audit_keeps_its_rows BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;"
    AUDIT_KEEPS_THEM_AS_THEY_ARE ";",

    /* 5: browsers that are logged in. */
    "CREATE TABLE sessions ("
    "  id TEXT PRIMARY KEY, team TEXT NOT NULL, token_id TEXT NOT NULL REFERENCES tokens ON DELETE CASCADE, hash TEXT NOT NULL UNIQUE,"
    "  created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, last_used_at INTEGER NOT NULL"
    ") STRICT;"
    "CREATE INDEX sessions_team ON sessions (team, id);"
    "CREATE INDEX sessions_token ON sessions (token_id);",

    /* 6: the queue is fair between teams and knows time, memory and repeated requests.  shares.served is what a team got, in
     * microseconds of workers; the row of team '' is the virtual time of the last claim. */
    "ALTER TABLE jobs ADD COLUMN not_before INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE jobs ADD COLUMN waits INTEGER NOT NULL DEFAULT 0 CHECK (waits IN (0, 1));"
    "ALTER TABLE jobs ADD COLUMN deadline_s INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE jobs ADD COLUMN deadline INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE jobs ADD COLUMN fingerprint TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE jobs ADD COLUMN estimate TEXT;"
    "ALTER TABLE jobs ADD COLUMN memory INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE jobs ADD COLUMN cancel_by TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE jobs ADD COLUMN cancel_reason TEXT;"
    "DROP INDEX jobs_queued;"
    "CREATE INDEX jobs_ready ON jobs (team, priority DESC, id) WHERE state = 'queued' AND waits = 0;"
    "CREATE INDEX jobs_waiting ON jobs (not_before) WHERE state = 'queued' AND waits = 1;"
    "CREATE INDEX jobs_deadline ON jobs (deadline) WHERE state = 'queued' AND deadline > 0;"
    "CREATE INDEX jobs_fingerprint ON jobs (team, fingerprint, id);"
    "CREATE TABLE shares (team TEXT PRIMARY KEY, served INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;"
    "INSERT INTO shares (team) SELECT '' UNION SELECT team FROM jobs;"
    "DROP TABLE idempotency;"                                   /* its rows held no answer to repeat */
    "CREATE TABLE idempotency ("
    "  team TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, resource_id TEXT NOT NULL,"
    "  status INTEGER NOT NULL, answer TEXT NOT NULL, created_at INTEGER NOT NULL, PRIMARY KEY (team, key)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX idempotency_age ON idempotency (created_at);",

    /* 7: the trace a job belongs to. */
    "ALTER TABLE jobs ADD COLUMN trace TEXT NOT NULL DEFAULT '';",

    /* 8: webhooks and their outbox, see webhook.h.  lane is the same for a team's hooks at one host and port; next_due is the earliest due_at of
     * what a hook has pending, 0 where nothing is to be sent. */
    "CREATE TABLE webhooks ("
    "  id TEXT PRIMARY KEY, team TEXT NOT NULL, job_id TEXT NOT NULL, name TEXT NOT NULL, url TEXT NOT NULL, lane TEXT NOT NULL,"
    "  events TEXT NOT NULL, secret TEXT NOT NULL, old_secret TEXT NOT NULL DEFAULT '', rotated_until INTEGER NOT NULL DEFAULT 0,"
    "  created_at INTEGER NOT NULL, created_by TEXT NOT NULL, disabled_at INTEGER NOT NULL DEFAULT 0, disabled_why TEXT NOT NULL DEFAULT '',"
    "  tried_at INTEGER NOT NULL DEFAULT 0, delivered_at INTEGER NOT NULL DEFAULT 0, next_due INTEGER NOT NULL DEFAULT 0"
    ") STRICT;"
    "CREATE INDEX webhooks_team ON webhooks (team, job_id, id);"
    "CREATE INDEX webhooks_due ON webhooks (next_due) WHERE next_due > 0;"
    "CREATE TABLE outbox ("
    "  id TEXT PRIMARY KEY, webhook_id TEXT NOT NULL REFERENCES webhooks ON DELETE CASCADE, team TEXT NOT NULL, event_id TEXT NOT NULL,"
    "  type TEXT NOT NULL, subject TEXT NOT NULL, body TEXT NOT NULL, created_at INTEGER NOT NULL,"
    "  state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed', 'blocked')),"
    "  tries INTEGER NOT NULL DEFAULT 0, due_at INTEGER NOT NULL, ended_at INTEGER NOT NULL DEFAULT 0"
    ") STRICT;"
    "CREATE INDEX outbox_webhook ON outbox (webhook_id, id);"
    "CREATE INDEX outbox_due ON outbox (webhook_id, due_at, id) WHERE state = 'pending';"
    "CREATE INDEX outbox_age ON outbox (created_at);"
    "CREATE TABLE attempts ("
    "  delivery_id TEXT NOT NULL REFERENCES outbox ON DELETE CASCADE, n INTEGER NOT NULL, at INTEGER NOT NULL, us INTEGER NOT NULL,"
    "  status INTEGER NOT NULL, problem TEXT, response TEXT, PRIMARY KEY (delivery_id, n)"
    ") STRICT, WITHOUT ROWID;",

    /* 9: the sum of what is reserved for jobs that have not ended, kept so that no job has to add up those of all others. */
    "DROP INDEX jobs_reserved;"
    "CREATE TABLE promised (only INTEGER PRIMARY KEY CHECK (only = 1), bytes INTEGER NOT NULL) STRICT;"
    "INSERT INTO promised SELECT 1, coalesce(sum(reserved), 0) FROM jobs WHERE state IN ('queued', 'running', 'canceling');",

    /* 10: rows of the audit log that it says are forgotten may go, see audit.h. */
    "CREATE INDEX audit_forgotten ON audit (CAST(target AS INTEGER)) WHERE action = 'audit.forgotten';"
    "DROP TRIGGER audit_keeps_its_rows;" AUDIT_KEEPS_ITS_ROWS ";",

    /* 11: when a blob's bytes were last compared with its digest, and since when they are known to be others, see scrub.h; 0: never, they are not. */
    "ALTER TABLE blobs ADD COLUMN checked_at INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE blobs ADD COLUMN corrupt_at INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX blobs_checked ON blobs (checked_at);"
    "CREATE INDEX blobs_corrupt ON blobs (corrupt_at) WHERE corrupt_at > 0;",

    /* 12: recipes that were saved, see recipe.h. */
    "CREATE TABLE recipes ("
    "  team TEXT NOT NULL, name TEXT NOT NULL, description TEXT NOT NULL, recipe TEXT NOT NULL,"
    "  created_at INTEGER NOT NULL, created_by TEXT NOT NULL, PRIMARY KEY (team, name)"
    ") STRICT;",
};
enum { STEPS = sizeof steps / sizeof steps[0] };

int schema_version(void) { return STEPS; }

static bool run(sqlite3 *lite, const char *sql, struct err *e)
{
    return sqlite3_exec(lite, sql, NULL, NULL, NULL) == SQLITE_OK || db_fail(lite, e, "migrate");
}

static bool read_version(sqlite3 *lite, int *ret, struct err *e)
{
    sqlite3_stmt *s = NULL;
    bool ok = sqlite3_prepare_v2(lite, "PRAGMA user_version", -1, &s, NULL) == SQLITE_OK
           && sqlite3_step(s) == SQLITE_ROW;
    if (ok)
        *ret = sqlite3_column_int(s, 0);
    else
        db_fail(lite, e, "read the schema's version");
    sqlite3_finalize(s);
    return ok;
}

/* The version is read again inside the transaction: what another process did in between counts. */
static bool step_up(sqlite3 *lite, bool *ret_done, struct err *e)
{
    int have = 0;
    char set[64];
    if (!read_version(lite, &have, e))
        return false;
    if (have > STEPS)
        return err_set(e, ERR_CONFIG, "database", "its schema has version %d, this program knows %d; run a newer repquantd",
                       have, (int)STEPS);
    *ret_done = have == STEPS;
    if (*ret_done)
        return true;
    snprintf(set, sizeof set, "PRAGMA user_version = %d", have + 1);
    return run(lite, steps[have], e) && run(lite, set, e);
}

bool schema_migrate(sqlite3 *lite, struct err *e)
{
    for (bool done = false; !done;) {
        if (!run(lite, "BEGIN IMMEDIATE", e))
            return false;
        if (!step_up(lite, &done, e) || !run(lite, "COMMIT", e)) {
            (void)run(lite, "ROLLBACK", NULL);
            return false;
        }
    }
    return true;
}

/* A trigger or view that is not ours would be somebody else's code, run at our next write. */
static bool is_ours(const char *sql)
{
    return strcmp(sql, AUDIT_KEEPS_ITS_ROWS) == 0 || strcmp(sql, AUDIT_KEEPS_THEM_AS_THEY_ARE) == 0;
}

bool schema_trust_code(sqlite3 *lite, struct err *e)
{
    int ours = 0;
    sqlite3_stmt *s = NULL;
    bool ok = sqlite3_prepare_v2(lite, "SELECT name, sql FROM sqlite_schema WHERE type IN ('trigger', 'view')", -1, &s, NULL) == SQLITE_OK;
    for (int rc; ok && (rc = sqlite3_step(s)) != SQLITE_DONE; ours++) {
        const char *name = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;
        const char *sql = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 1) : NULL;
        if (!sql)
            ok = db_fail(lite, e, "read the schema's code");
        else if (!is_ours(sql))
            ok = err_set(e, ERR_CONFIG, "database", "it holds the trigger or view \"%.60s\", which is not ours; restore the last backup", name ? name : "");
    }
    sqlite3_finalize(s);
    if (ok && ours != 2)
        ok = err_set(e, ERR_CONFIG, "database", "the triggers that protect the audit log are gone; restore the last backup");
    return ok && (sqlite3_db_config(lite, SQLITE_DBCONFIG_ENABLE_TRIGGER, 1, NULL) == SQLITE_OK || db_fail(lite, e, "enable the triggers"));
}
