/*
 * sql.h - all SQL of the service but the schema.  X(name, text).
 *
 * INDEXED BY stands where the planner, which has no statistics, prefers an index that makes it sort the
 * whole queue; it also makes the statement fail to prepare, at start, if the index ever goes.
 *
 * Parameters are numbered; there is no other way for a value to get into a statement.  ?1 is the
 * team or, where a worker or recovery acts, the job.
 */
#ifndef STORAGE_SQL_H
#define STORAGE_SQL_H

/* In the order that job_of_row() reads. */
#define JOB_COLUMNS                                                                                     \
    "id, team, type, model_id, dataset_id, eval_dataset_id, retry_of, recipe, labels, priority,"        \
    " max_attempts, state, queued_at, running_at, canceling_at, canceled_at, failed_at, succeeded_at,"  \
    " cancel_requested_at, attempt, claim_token, lease_until, boot_id, worker, stage, done, total,"     \
    " warnings, engine, problem, summary, not_before, deadline_s, deadline, fingerprint, estimate, memory,"  \
    " cancel_by, cancel_reason, trace"
#define MOVING_COLUMNS "id, team, state, attempt, max_attempts"
/* A worker's writes reach only the job it still holds. */
#define HELD " WHERE id = ?1 AND claim_token = ?2 AND state IN ('running', 'canceling')"
/* When a job that has ended did. */
#define ENDED "state IN ('canceled', 'failed', 'succeeded')"                                            \
    " AND max(coalesce(canceled_at, 0), coalesce(failed_at, 0), coalesce(succeeded_at, 0))"
#define ASSET_COLUMNS "id, team, kind, name, format, digest, bytes, created_at"
#define ARTIFACT_COLUMNS "id, job_id, name, media_type, digest, size, created_at"
/* Behind these columns: whether bytes of it have rotted. */
#define ASSET_ROTTED ", EXISTS (SELECT 1 FROM asset_files f JOIN blobs b ON b.digest = f.digest WHERE f.asset_id = assets.id AND b.corrupt_at > 0)"
#define ARTIFACT_ROTTED ", (SELECT b.corrupt_at > 0 FROM blobs b WHERE b.digest = artifacts.digest)"
#define UPLOAD_COLUMNS "id, length, offset, hash, want, metadata, source, digest, problem, created_at, expires_at"
#define TOKEN_COLUMNS "id, team, name, scopes, created_at, expires_at, last_used_at, created_by, hash"
/* Whether one more job of the team `of` may run. */
#define TEAM_MAY_RUN(of) "NOT EXISTS (SELECT 1 FROM teams t WHERE t.name = " of " AND t.max_running <="     \
    " (SELECT count(*) FROM jobs r WHERE r.state IN ('running', 'canceling') AND r.team = t.name))"
/* An administrator who needs no proxy to vouch for them. */
#define TOKEN_ADMIN "instr(' ' || scopes || ' ', ' admin ') AND hash NOT LIKE 'identity:%'"
#define AUDIT_FORGOTTEN "(SELECT coalesce(max(CAST(target AS INTEGER)), 0) FROM audit WHERE action = 'audit.forgotten')"
#define AUDIT_COLUMNS "seq, at, request, team, token, session, peer, method, action, target, status, code, prev, hash"
#define RECIPE_COLUMNS "name, description, recipe, created_at, created_by"
#define SESSION_COLUMNS "id, team, token_id, created_at, expires_at, last_used_at"
/* Event ?3, unless it is hook ?4.  Asked for each event, so without IN, for which SQLite would make a table each time. */
#define HOOK_WANTS "disabled_at = 0 AND instr(' ' || events || ' ', ' ' || ?3 || ' ') AND id <> ?4"
/* Of webhooks h. */
#define WEBHOOK_COLUMNS "id, team, job_id, name, url, events, created_by, disabled_why, created_at, disabled_at, tried_at, delivered_at," \
    " rotated_until, (SELECT count(*) FROM outbox o WHERE o.webhook_id = h.id AND o.state = 'pending')"
#define DELIVERY_COLUMNS "id, webhook_id, event_id, subject, type, state, created_at, due_at, ended_at,"        \
    " (SELECT count(*) FROM attempts a WHERE a.delivery_id = outbox.id)"
#define TEAM_COLUMNS "name, created_at, max_running, max_queued, max_bytes"

#define SQL_STATEMENTS(X)                                                                               \
    X(PING, "SELECT count(*) FROM (SELECT 1 FROM jobs LIMIT 1)")                                        \
    /* blobs */                                                                                         \
    /* whoever brings the bytes brings them anew */                                                     \
    X(BLOB_INSERT, "INSERT INTO blobs (digest, size, checked_at) VALUES (?1, ?2, ?3)"                   \
                   " ON CONFLICT DO UPDATE SET checked_at = excluded.checked_at, corrupt_at = 0")       \
    X(BLOB_OWN, "INSERT INTO blob_owners (team, digest, created_at) VALUES (?1, ?2, ?3)"                \
                " ON CONFLICT DO UPDATE SET created_at = excluded.created_at")                          \
    X(BLOB_GET, "SELECT b.size, b.corrupt_at FROM blob_owners o JOIN blobs b USING (digest)"                          \
                " WHERE o.team = ?1 AND o.digest = ?2")                                                 \
    X(BLOB_KNOWN, "SELECT 1 FROM blobs WHERE digest = ?1")                                              \
    X(BLOB_DISOWN, "DELETE FROM blob_owners AS o WHERE o.created_at < ?1"                               \
                   " AND NOT EXISTS (SELECT 1 FROM asset_files f WHERE f.team = o.team AND f.digest = o.digest)" \
                   " AND NOT EXISTS (SELECT 1 FROM artifacts a WHERE a.team = o.team AND a.digest = o.digest)") \
    X(BLOB_ORPHAN, "SELECT digest FROM blobs AS b"                                                      \
                   " WHERE NOT EXISTS (SELECT 1 FROM blob_owners o WHERE o.digest = b.digest) LIMIT 1") \
    X(BLOB_DELETE, "DELETE FROM blobs WHERE digest = ?1")                                               \
    X(BLOB_MARK, "UPDATE blobs SET corrupt_at = ?2, checked_at = ?3 WHERE digest = ?1 AND (corrupt_at > 0) <> (?2 > 0)") \
    X(BLOB_CHECKED, "UPDATE blobs SET checked_at = ?2 WHERE digest = ?1")                               \
    X(BLOB_OLDEST, "SELECT digest, corrupt_at FROM blobs INDEXED BY blobs_checked ORDER BY checked_at LIMIT ?1") \
    X(BLOB_TOTAL, "SELECT count(*), coalesce(sum(size), 0) FROM blobs")                                 \
    X(BLOB_CORRUPT, "SELECT count(*) FROM blobs INDEXED BY blobs_corrupt WHERE corrupt_at > 0")         \
    /* uploads in parts */                                                                              \
    X(UPLOAD_INSERT, "INSERT INTO uploads (team, " UPLOAD_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, NULL, ?10, ?11)") \
    X(UPLOAD_GET, "SELECT " UPLOAD_COLUMNS " FROM uploads WHERE team = ?1 AND id = ?2")                 \
    X(UPLOAD_KNOWN, "SELECT 1 FROM uploads WHERE id = ?1 AND digest = '' AND problem IS NULL")          \
    X(UPLOAD_OPEN, "SELECT count(*) FROM uploads WHERE team = ?1 AND digest = '' AND problem IS NULL AND expires_at >= ?2" \
                   " AND NOT instr(?3, id)") \
    X(UPLOAD_PROGRESS, "UPDATE uploads SET offset = ?3, hash = ?4, expires_at = ?5, length = ?6 WHERE team = ?1 AND id = ?2") \
    X(UPLOAD_FINISH, "UPDATE uploads SET offset = ?3, length = ?3, hash = '', digest = ?4, expires_at = ?5 WHERE team = ?1 AND id = ?2") \
    X(UPLOAD_FAIL, "UPDATE uploads SET problem = ?3 WHERE team = ?1 AND id = ?2")                       \
    X(UPLOAD_FAIL_IMPORTS, "UPDATE uploads SET problem = ?1 WHERE source <> '' AND digest = '' AND problem IS NULL") \
    X(UPLOAD_DELETE, "DELETE FROM uploads WHERE team = ?1 AND id = ?2")                                 \
    X(UPLOAD_EXPIRED, "SELECT id, team FROM uploads INDEXED BY uploads_expiry WHERE expires_at < ?1 AND id > ?2 ORDER BY id LIMIT 1") \
    /* disk space */                                                                                    \
    X(DISK_PROMISED, "SELECT bytes FROM promised")                                                      \
    X(DISK_PROMISE, "UPDATE promised SET bytes = bytes + ?1")                                           \
    X(DISK_PROMISE_KEPT, "UPDATE promised SET bytes = bytes - (SELECT reserved FROM jobs WHERE id = ?1)") \
    X(DISK_PROMISES_SUM, "UPDATE promised SET bytes = (SELECT coalesce(sum(reserved), 0) FROM jobs"     \
                         " WHERE state IN ('queued', 'running', 'canceling'))")                         \
    /* pictures become arrays on disk: four bytes an element */                                         \
    X(JOB_NEEDS, "SELECT coalesce(sum(CASE WHEN kind = 'model' THEN 3 * bytes WHEN format <> 'images' THEN 2 * bytes ELSE bytes + 4 *" \
                 " coalesce(json_extract(inventory, '$.arrays[0].shape[0]') * json_extract(inventory, '$.arrays[0].shape[1]')" \
                 " * json_extract(inventory, '$.arrays[0].shape[2]') * json_extract(inventory, '$.arrays[0].shape[3]'), 0) END), 0) FROM assets" \
                 " WHERE team = ?1 AND id IN (?2, ?3, ?4)")                                             \
    /* models and data sets */                                                                          \
    X(ASSET_INSERT, "INSERT INTO assets (" ASSET_COLUMNS ", inventory)"                                 \
                    " VALUES (?2, ?1, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")                                     \
    X(ASSET_FILE_INSERT, "INSERT INTO asset_files (asset_id, position, team, path, digest, size)"       \
                         " VALUES (?2, ?3, ?1, ?4, ?5, ?6)")                                            \
    X(ASSET_GET, "SELECT " ASSET_COLUMNS ASSET_ROTTED ", inventory FROM assets WHERE team = ?1 AND kind = ?2 AND id = ?3") \
    X(ASSET_FILES, "SELECT f.path, f.digest, f.size, b.corrupt_at FROM asset_files f JOIN blobs b ON b.digest = f.digest" \
                   " WHERE f.team = ?1 AND f.asset_id = ?2 ORDER BY f.position")                         \
    X(ASSET_LIST_DOWN, "SELECT " ASSET_COLUMNS ASSET_ROTTED " FROM assets WHERE team = ?1 AND kind = ?2 AND id < ?3" \
                       " ORDER BY id DESC LIMIT ?4")                                                    \
    X(ASSET_LIST_UP, "SELECT " ASSET_COLUMNS ASSET_ROTTED " FROM assets WHERE team = ?1 AND kind = ?2 AND id > ?3"   \
                     " ORDER BY id LIMIT ?4")                                                           \
    X(ASSET_BUSY, "SELECT id FROM jobs WHERE state IN ('queued', 'running', 'canceling')"               \
                  " AND team = ?1 AND ?2 IN (model_id, dataset_id, eval_dataset_id) LIMIT 1")           \
    X(ASSET_DELETE, "DELETE FROM assets WHERE team = ?1 AND kind = ?2 AND id = ?3")                     \
    /* jobs */                                                                                          \
    X(JOB_INSERT, "INSERT INTO jobs (id, team, type, model_id, dataset_id, eval_dataset_id, retry_of, recipe," \
                  " labels, priority, max_attempts, queued_at, not_before, waits, deadline_s, deadline, fingerprint," \
                  " estimate, memory, trace, reserved) VALUES (?2, ?1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13 > ?12, ?14," \
                  " CASE WHEN ?14 > 0 THEN max(?12, ?13) + ?14 * 1000000 ELSE 0 END, ?15, ?16, ?17, ?18, ?19)") \
    X(JOB_GET, "SELECT " JOB_COLUMNS " FROM jobs WHERE team = ?1 AND id = ?2")                          \
    X(JOB_LIST_DOWN, "SELECT " JOB_COLUMNS " FROM jobs WHERE team = ?1 AND id < ?2" JOB_FILTER " ORDER BY id DESC LIMIT ?6") \
    X(JOB_LIST_UP, "SELECT " JOB_COLUMNS " FROM jobs WHERE team = ?1 AND id > ?2" JOB_FILTER " ORDER BY id LIMIT ?6") \
    X(JOB_COUNT, "SELECT state, count(*), min(queued_at) FROM jobs WHERE ?1 IS NULL OR team = ?1 GROUP BY state") \
    X(JOB_WAITS, "SELECT queued_at, coalesce(running_at, canceled_at, failed_at, ?3), coalesce(running_at, 0) FROM jobs INDEXED BY jobs_state" \
                 " WHERE state IN ('running', 'canceling', 'canceled', 'failed', 'succeeded') AND team = ?1 AND queued_at >= ?2" \
                 " UNION ALL SELECT queued_at, ?3, 0 FROM jobs INDEXED BY jobs_state WHERE state = 'queued' AND team = ?1") \
    X(JOB_POSITION, "SELECT own + coalesce((SELECT sum(min(n, own)) FROM (SELECT count(*) n FROM jobs" \
                    " WHERE state = 'queued' AND team <> ?1 GROUP BY team)), 0) FROM (SELECT count(q.id) own FROM" \
                    " (SELECT id, priority FROM jobs WHERE id = ?2 AND team = ?1 AND state = 'queued') j"  \
                    " LEFT JOIN jobs q INDEXED BY jobs_ready ON q.state = 'queued' AND q.waits = 0 AND q.team = ?1" \
                    " AND (q.priority > j.priority OR q.priority = j.priority AND q.id < j.id))")       \
    X(JOB_DELETE, "DELETE FROM jobs WHERE team = ?1 AND id = ?2")                                       \
    X(JOB_TWIN, "SELECT id FROM jobs WHERE team = ?1 AND fingerprint = ?2 AND (state IN ('queued', 'running')" \
                " OR state = 'succeeded' AND EXISTS (SELECT 1 FROM artifacts a WHERE a.job_id = jobs.id)" \
                " AND NOT EXISTS (SELECT 1 FROM artifacts a JOIN blobs b ON b.digest = a.digest WHERE a.job_id = jobs.id AND b.corrupt_at > 0))" \
                " ORDER BY state = 'succeeded' DESC, id DESC LIMIT 1")                                  \
    X(JOB_TWIN_QUEUED, "SELECT id FROM jobs WHERE team = ?1 AND fingerprint = ?2 AND state = 'queued' LIMIT 1") \
    X(JOB_ESTIMATE, "SELECT estimate FROM jobs WHERE team = ?1 AND fingerprint = ?2 AND estimate IS NOT NULL" \
                    " ORDER BY id DESC LIMIT 1")                                                        \
    /* the queue */                                                                                     \
    X(SHARE_JOIN, "INSERT INTO shares (team) VALUES (?1) ON CONFLICT DO NOTHING")                       \
    X(SHARE_VIRTUAL, "UPDATE shares SET served = max(served, (SELECT served FROM shares WHERE team = ?1)) WHERE team = ''") \
    X(SHARE_CLAIM, "UPDATE shares SET served = max(served, (SELECT served FROM shares WHERE team = '')) + ?2 WHERE team = ?1") \
    X(SHARE_CHARGE, "UPDATE shares SET served = served + max(0, ?3 - (SELECT coalesce(running_at, ?3) FROM jobs WHERE id = ?2))" \
                    " WHERE team = ?1")                                                                 \
    X(QUEUE_RELEASE, "UPDATE jobs SET waits = 0 WHERE state = 'queued' AND waits = 1 AND not_before <= ?1") \
    X(QUEUE_OVERDUE, "SELECT " MOVING_COLUMNS " FROM jobs INDEXED BY jobs_deadline"                     \
                     " WHERE state = 'queued' AND deadline > 0 AND deadline <= ?1 LIMIT 8")             \
    /* min() alone would look at all of them */                                                         \
    X(QUEUE_DUE, "SELECT coalesce(min(at), 0) FROM (SELECT (SELECT not_before FROM jobs INDEXED BY jobs_waiting" \
                 " WHERE state = 'queued' AND waits = 1 ORDER BY not_before LIMIT 1) at"                \
                 " UNION ALL SELECT (SELECT deadline FROM jobs INDEXED BY jobs_deadline"                \
                 " WHERE state = 'queued' AND deadline > 0 ORDER BY deadline LIMIT 1))")                \
    /* The first job of the team that runs the fewest and got the least; a team that had nothing to run has no claim to the past. */ \
    X(QUEUE_NEXT, "SELECT h.id, h.memory, s.team FROM shares s JOIN jobs h ON h.id ="                   \
                  " (SELECT id FROM jobs INDEXED BY jobs_ready WHERE team = s.team AND state = 'queued' AND waits = 0" \
                  " ORDER BY priority DESC, id LIMIT 1)"                                                \
                  " WHERE " TEAM_MAY_RUN("s.team")                                                      \
                  " ORDER BY (SELECT count(*) FROM jobs r INDEXED BY jobs_state WHERE r.state IN ('running', 'canceling')" \
                  " AND r.team = s.team), max(s.served, (SELECT served FROM shares WHERE team = '')), h.id LIMIT 1") \
    X(QUEUE_MEMORY, "SELECT coalesce(sum(memory), 0) FROM jobs INDEXED BY jobs_live WHERE state IN ('running', 'canceling')") \
    /* every arrow of job.h: ?2 the new state, ?3 now, ?4 a problem or NULL, ?5 added to attempt, ?6 the old state */ \
    X(JOB_MOVE, "UPDATE jobs SET state = ?2, attempt = attempt + ?5,"                                   \
                " problem = CASE ?2 WHEN 'succeeded' THEN NULL ELSE coalesce(?4, problem) END,"         \
                " queued_at = CASE ?2 WHEN 'queued' THEN ?3 ELSE queued_at END,"                        \
                " canceling_at = CASE ?2 WHEN 'canceling' THEN ?3 ELSE canceling_at END,"               \
                " canceled_at = CASE ?2 WHEN 'canceled' THEN ?3 ELSE canceled_at END,"                  \
                " failed_at = CASE ?2 WHEN 'failed' THEN ?3 ELSE failed_at END,"                        \
                " succeeded_at = CASE ?2 WHEN 'succeeded' THEN ?3 ELSE succeeded_at END,"               \
                " stage = CASE ?2 WHEN 'queued' THEN '' ELSE stage END"                                 \
                " WHERE id = ?1 AND state = ?6")                                                        \
    X(JOB_CANCEL_REQUESTED, "UPDATE jobs SET cancel_requested_at = ?3, cancel_by = ?4, cancel_reason = ?5 WHERE team = ?1 AND id = ?2")     \
    X(IDEMPOTENCY_FIND, "SELECT fingerprint, resource_id, status, answer FROM idempotency"              \
                        " WHERE team = ?1 AND key = ?2 AND created_at >= ?3")                           \
    X(IDEMPOTENCY_INSERT, "INSERT INTO idempotency (team, key, fingerprint, resource_id, status, answer, created_at)" \
                          " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET fingerprint = ?3, resource_id = ?4," \
                          " status = ?5, answer = ?6, created_at = ?7 WHERE created_at < ?8")           \
    X(IDEMPOTENCY_EXPIRE, "DELETE FROM idempotency WHERE created_at < ?1")                              \
    /* the holder of a claim */                                                                         \
    X(RUN_CLAIM, "UPDATE jobs SET state = 'running', running_at = ?1, attempt = attempt + 1,"           \
                 " claim_token = claim_token + 1, lease_until = ?2, boot_id = ?3, worker = ?4, stage = ''," \
                 " done = 0, total = 0, warnings = 0 WHERE id = ?5 AND state = 'queued'"                \
                 " RETURNING " JOB_COLUMNS)                                                             \
    X(RUN_EXPIRED, "SELECT " MOVING_COLUMNS " FROM jobs INDEXED BY jobs_live"       \
                   " WHERE state IN ('running', 'canceling') AND (lease_until < ?1 OR boot_id <> ?2) LIMIT 8") \
    X(RUN_LEFT, "SELECT " MOVING_COLUMNS " FROM jobs"                               \
                " WHERE state IN ('running', 'canceling') LIMIT 8")                                     \
    X(RUN_HELD, "SELECT " MOVING_COLUMNS " FROM jobs" HELD)                                             \
    X(RUN_HEARTBEAT, "UPDATE jobs SET lease_until = ?3" HELD)                        \
    X(RUN_ENGINE, "UPDATE jobs SET engine = ?3" HELD)                                                   \
    X(RUN_STAGE, "UPDATE jobs SET stage = ?3" HELD)                                                     \
    X(RUN_PROGRESS, "UPDATE jobs SET done = ?3, total = ?4" HELD)                                       \
    X(RUN_WARNING, "UPDATE jobs SET warnings = warnings + 1" HELD)                                      \
    X(RUN_SUMMARY, "UPDATE jobs SET summary = ?3" HELD)                                                 \
    X(LAYER_PUT, "INSERT INTO layers (job_id, idx, team, row) VALUES (?1, ?2, ?3, ?4)"                  \
                 " ON CONFLICT DO UPDATE SET row = excluded.row")                                       \
    X(METRIC_PUT, "INSERT INTO metrics (job_id, name, team, x_float, x_quantized, samples)"             \
                  " VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET"                          \
                  " x_float = excluded.x_float, x_quantized = excluded.x_quantized, samples = excluded.samples") \
    X(ARTIFACT_INSERT, "INSERT INTO artifacts (id, team, job_id, name, media_type, digest, size, created_at)" \
                       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")                                      \
    X(EVENT_INSERT, "INSERT INTO events (job_id, seq, team, at, type, data) VALUES"                     \
                    " (?1, (SELECT coalesce(max(seq), 0) + 1 FROM events WHERE job_id = ?1), ?2, ?3, ?4, ?5)") \
    /* retention: a few at a time, so that a writer never waits long */                                 \
    X(FORGET_JOBS, "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE " ENDED " < ?1 LIMIT 16)")  \
    X(FORGET_EVENTS, "DELETE FROM events WHERE job_id IN (SELECT id FROM jobs WHERE " ENDED " < ?1"     \
                     " AND EXISTS (SELECT 1 FROM events e WHERE e.job_id = jobs.id) LIMIT 16)")         \
    X(FORGET_ARTIFACTS, "DELETE FROM artifacts WHERE id IN (SELECT a.id FROM artifacts a JOIN jobs ON jobs.id = a.job_id" \
                        " WHERE " ENDED " < ?1 LIMIT 64)")                                              \
    /* what it left */                                                                                  \
    X(JOB_EXISTS, "SELECT 1 FROM jobs WHERE team = ?1 AND id = ?2")                                     \
    X(JOB_QUEUED, "SELECT 1 FROM jobs WHERE id = ?1 AND state = 'queued'")                              \
    X(EVENT_LIST, "SELECT seq, at, type, data, (SELECT trace FROM jobs WHERE id = ?2) FROM events WHERE team = ?1 AND job_id = ?2 AND seq > ?3" \
                  " ORDER BY seq LIMIT ?4")                                                             \
    X(LAYER_LIST_UP, "SELECT idx, row FROM layers WHERE team = ?1 AND job_id = ?2"                      \
                     " ORDER BY json_extract(row, ?3) ASC NULLS LAST, idx")                             \
    X(LAYER_LIST_DOWN, "SELECT idx, row FROM layers WHERE team = ?1 AND job_id = ?2"                    \
                       " ORDER BY json_extract(row, ?3) DESC NULLS LAST, CASE WHEN ?3 IS NULL THEN idx END DESC, idx") \
    X(METRIC_LIST, "SELECT name, x_float, x_quantized, samples FROM metrics WHERE team = ?1 AND job_id = ?2" \
                   " ORDER BY rowid")                                                                   \
    X(ARTIFACT_LIST, "SELECT " ARTIFACT_COLUMNS ARTIFACT_ROTTED " FROM artifacts WHERE team = ?1 AND job_id = ?2 ORDER BY id") \
    X(ARTIFACT_GET, "SELECT " ARTIFACT_COLUMNS ARTIFACT_ROTTED " FROM artifacts WHERE team = ?1 AND id = ?2")           \
    X(ARTIFACT_FIND, "SELECT " ARTIFACT_COLUMNS ARTIFACT_ROTTED " FROM artifacts WHERE team = ?1 AND job_id = ?2 AND name = ?3") \
    /* tokens */                                                                                        \
    X(TOKEN_INSERT, "INSERT INTO tokens (id, team, name, scopes, hash, created_at, expires_at, created_by)" \
                    " VALUES (?2, ?1, ?3, ?4, ?5, ?6, ?7, ?8)")                                         \
    X(TOKEN_BY_HASH, "SELECT " TOKEN_COLUMNS " FROM tokens WHERE hash = ?1")                            \
    X(TOKEN_USED, "UPDATE tokens SET last_used_at = ?2 WHERE id = ?1 AND last_used_at < ?2")            \
    X(TOKEN_GET, "SELECT " TOKEN_COLUMNS " FROM tokens WHERE team = ?1 AND id = ?2")                    \
    X(TOKEN_LIST_DOWN, "SELECT " TOKEN_COLUMNS " FROM tokens WHERE team = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3") \
    X(TOKEN_LIST_UP, "SELECT " TOKEN_COLUMNS " FROM tokens WHERE team = ?1 AND id > ?2 ORDER BY id LIMIT ?3") \
    X(TOKEN_DELETE, "DELETE FROM tokens WHERE team = ?1 AND id = ?2")                                   \
    X(TOKEN_LAST_ADMIN, "SELECT 1 FROM tokens WHERE team = ?1 AND id = ?2 AND " TOKEN_ADMIN " AND NOT EXISTS" \
                        " (SELECT 1 FROM tokens WHERE id <> ?2 AND " TOKEN_ADMIN " AND (expires_at = 0 OR expires_at > ?3))") \
    X(TOKEN_ANY_ADMIN, "SELECT 1 FROM tokens WHERE " TOKEN_ADMIN " AND (expires_at = 0 OR expires_at > ?1) LIMIT 1")                                                        \
    /* teams */                                                                                         \
    X(TEAM_INSERT, "INSERT INTO teams (name, created_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING")       \
    X(TEAM_QUOTA, "UPDATE teams SET max_running = ?2, max_queued = ?3, max_bytes = ?4 WHERE name = ?1") \
    X(TEAM_GET, "SELECT " TEAM_COLUMNS " FROM teams WHERE name = ?1")                                   \
    X(TEAM_LIST, "SELECT " TEAM_COLUMNS " FROM teams ORDER BY name")                                    \
    /* ?2: ids of uploads and digests that are counted as what requests hold, see hold.h; "" for none */   \
    X(TEAM_USED, "SELECT (SELECT count(*) FROM jobs WHERE state IN ('running', 'canceling') AND team = ?1)," \
                 " (SELECT count(*) FROM jobs WHERE state = 'queued' AND team = ?1),"                   \
                 " (SELECT coalesce(sum(b.size), 0) FROM blob_owners o JOIN blobs b USING (digest) WHERE o.team = ?1" \
                 " AND NOT instr(?2, o.digest))"                                                        \
                 " + (SELECT coalesce(sum(max(length, 0)), 0) FROM uploads WHERE team = ?1 AND digest = '' AND problem IS NULL" \
                 " AND NOT instr(?2, id))") \
    X(TEAM_HAS, "SELECT EXISTS (SELECT 1 FROM tokens WHERE team = ?1), EXISTS (SELECT 1 FROM jobs WHERE team = ?1)," \
                " EXISTS (SELECT 1 FROM assets WHERE team = ?1), EXISTS (SELECT 1 FROM blob_owners WHERE team = ?1)"   \
                " OR EXISTS (SELECT 1 FROM uploads WHERE team = ?1)," \
                " EXISTS (SELECT 1 FROM webhooks WHERE team = ?1 AND job_id = ''), EXISTS (SELECT 1 FROM recipes WHERE team = ?1)") \
    X(TEAM_DELETE, "DELETE FROM teams WHERE name = ?1")                                                 \
    /* saved recipes */                                                                                 \
    X(RECIPE_INSERT, "INSERT INTO recipes (team, name, description, recipe, created_at, created_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6)" \
                     " ON CONFLICT DO NOTHING")                                                         \
    X(RECIPE_COUNT, "SELECT count(*) FROM recipes WHERE team = ?1")                                     \
    X(RECIPE_GET, "SELECT " RECIPE_COLUMNS " FROM recipes WHERE team = ?1 AND name = ?2")               \
    X(RECIPE_LIST, "SELECT name, description, NULL, created_at, created_by FROM recipes WHERE team = ?1 ORDER BY name") \
    X(RECIPE_DELETE, "DELETE FROM recipes WHERE team = ?1 AND name = ?2")                               \
    /* sessions */                                                                                      \
    X(SESSION_INSERT, "INSERT INTO sessions (id, team, token_id, hash, created_at, expires_at, last_used_at)" \
                      " VALUES (?2, ?1, ?3, ?4, ?5, ?6, ?5)")                                           \
    X(SESSION_BY_HASH, "SELECT " SESSION_COLUMNS " FROM sessions WHERE hash = ?1")                      \
    X(SESSION_GET, "SELECT " SESSION_COLUMNS " FROM sessions WHERE id = ?1")                            \
    X(SESSION_USED, "UPDATE sessions SET last_used_at = ?2 WHERE id = ?1 AND last_used_at < ?2")        \
    X(SESSION_COUNT, "SELECT count(*) FROM sessions WHERE token_id = ?1")                               \
    X(SESSION_LIST_DOWN, "SELECT " SESSION_COLUMNS " FROM sessions WHERE team = ?1 AND id < ?2 AND (?3 IS NULL OR token_id = ?3)" \
                         " ORDER BY id DESC LIMIT ?4")                                                  \
    X(SESSION_LIST_UP, "SELECT " SESSION_COLUMNS " FROM sessions WHERE team = ?1 AND id > ?2 AND (?3 IS NULL OR token_id = ?3)" \
                       " ORDER BY id LIMIT ?4")                                                         \
    X(SESSION_DELETE, "DELETE FROM sessions WHERE team = ?1 AND id = ?2 AND (?3 IS NULL OR token_id = ?3)") \
    X(SESSION_EXPIRE, "DELETE FROM sessions WHERE expires_at <= ?1 OR last_used_at <= ?2")              \
    /* webhooks */                                                                                      \
    X(WEBHOOK_INSERT, "INSERT INTO webhooks (team, id, job_id, name, url, lane, events, secret, created_at, created_by)" \
                      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")                              \
    X(WEBHOOK_COUNT, "SELECT count(*) FROM webhooks WHERE team = ?1 AND job_id = ?2")                   \
    X(WEBHOOK_GET, "SELECT " WEBHOOK_COLUMNS " FROM webhooks h WHERE team = ?1 AND id = ?2")            \
    X(WEBHOOK_LIST_DOWN, "SELECT " WEBHOOK_COLUMNS " FROM webhooks h WHERE team = ?1 AND job_id = ?2 AND id < ?3" \
                         " ORDER BY id DESC LIMIT ?4")                                                  \
    X(WEBHOOK_LIST_UP, "SELECT " WEBHOOK_COLUMNS " FROM webhooks h WHERE team = ?1 AND job_id = ?2 AND id > ?3" \
                       " ORDER BY id LIMIT ?4")                                                         \
    X(WEBHOOK_CHANGE, "UPDATE webhooks SET name = coalesce(?3, name), url = coalesce(?4, url), lane = coalesce(?5, lane)," \
                      " events = coalesce(?6, events) WHERE team = ?1 AND id = ?2")                     \
    X(WEBHOOK_ENABLE, "UPDATE webhooks SET disabled_at = 0, disabled_why = '' WHERE id = ?1")           \
    X(WEBHOOK_DISABLE, "UPDATE webhooks SET disabled_at = ?2, disabled_why = ?3 WHERE id = ?1 AND disabled_at = 0") \
    X(WEBHOOK_ROTATE, "UPDATE webhooks SET old_secret = secret, secret = ?3, rotated_until = ?4 WHERE team = ?1 AND id = ?2") \
    X(WEBHOOK_DELETE, "DELETE FROM webhooks WHERE team = ?1 AND id = ?2")                               \
    X(WEBHOOK_OF_JOB, "SELECT name, url, lane, events, secret, created_by FROM webhooks WHERE team = ?1 AND job_id = ?2 ORDER BY id") \
    /* when what it has pending is due */                                                               \
    X(WEBHOOK_DUE, "UPDATE webhooks SET next_due = CASE WHEN disabled_at > 0 THEN 0 ELSE coalesce((SELECT min(due_at) FROM outbox" \
                   " INDEXED BY outbox_due WHERE webhook_id = ?1 AND state = 'pending'), 0) END WHERE id = ?1") \
    X(WEBHOOK_WANTING, "SELECT id FROM webhooks WHERE team = ?1 AND job_id = '' AND " HOOK_WANTS        \
                       " UNION ALL SELECT id FROM webhooks WHERE team = ?1 AND job_id = ?2 AND " HOOK_WANTS)  \
    X(OUTBOX_JOB, "SELECT state, attempt, model_id, dataset_id, eval_dataset_id, retry_of, labels, summary," \
                  " (SELECT max(seq) FROM events WHERE job_id = ?1) FROM jobs WHERE id = ?1")           \
    X(OUTBOX_INSERT, "INSERT INTO outbox (team, id, webhook_id, event_id, type, subject, body, created_at, due_at)" \
                     " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)")                                    \
    X(OUTBOX_LAST_EVENT, "SELECT type, data FROM events WHERE team = ?1 AND job_id = ?2 ORDER BY seq DESC LIMIT 1") \
    X(OUTBOX_NEXT, "SELECT o.id, o.event_id, h.id, h.team, o.type, h.lane, h.url, h.secret,"            \
                   " CASE WHEN h.rotated_until > ?2 THEN h.old_secret ELSE '' END, o.created_at, o.tries, o.body" \
                   " FROM webhooks h JOIN outbox o ON o.id = (SELECT id FROM outbox INDEXED BY outbox_due"  \
                   " WHERE webhook_id = h.id AND state = 'pending' AND due_at <= ?2 ORDER BY due_at, id LIMIT 1)"   \
                   " WHERE h.next_due > 0 AND h.next_due <= ?2 AND NOT instr(?1, h.lane)" \
                   " AND (?3 IS NULL OR instr(?3, h.lane)) ORDER BY h.tried_at, h.next_due LIMIT 1") \
    X(OUTBOX_NEXT_DUE, "SELECT coalesce(min(next_due), 0) FROM webhooks WHERE next_due > 0 AND NOT instr(?1, lane)" \
                       " AND (?2 IS NULL OR instr(?2, lane))") \
    X(OUTBOX_TRIED, "UPDATE outbox SET state = ?2, tries = tries + 1, due_at = ?3, ended_at = ?4 WHERE id = ?1 AND state = 'pending'") \
    X(OUTBOX_HOOK_TRIED, "UPDATE webhooks SET tried_at = ?2, delivered_at = max(delivered_at, ?3) WHERE id = ?1") \
    X(OUTBOX_DEAD, "SELECT 1 FROM webhooks WHERE id = ?1 AND disabled_at = 0 AND delivered_at < ?2")    \
    X(OUTBOX_AGAIN, "UPDATE outbox SET state = 'pending', tries = 0, due_at = ?4, ended_at = 0 WHERE team = ?1 AND webhook_id = ?2 AND id = ?3") \
    X(OUTBOX_COUNT, "SELECT (SELECT count(*) FROM outbox INDEXED BY outbox_due WHERE state = 'pending'),"   \
                    " (SELECT coalesce(min(next_due), 0) FROM webhooks WHERE next_due > 0),"            \
                    " (SELECT count(*) FROM webhooks WHERE disabled_at > 0)")                           \
    X(ATTEMPT_INSERT, "INSERT INTO attempts (delivery_id, n, at, us, status, problem, response) SELECT ?1,"     \
                      " (SELECT coalesce(max(n), 0) + 1 FROM attempts WHERE delivery_id = ?1), ?2, ?3, ?4, ?5, ?6 FROM outbox WHERE id = ?1") \
    X(ATTEMPT_LIST, "SELECT n, at, us, status, problem, response FROM attempts WHERE delivery_id = ?1 ORDER BY n") \
    X(DELIVERY_GET, "SELECT " DELIVERY_COLUMNS ", body FROM outbox WHERE team = ?1 AND webhook_id = ?2 AND id = ?3") \
    X(DELIVERY_LIST_DOWN, "SELECT " DELIVERY_COLUMNS " FROM outbox WHERE team = ?1 AND webhook_id = ?2 AND id < ?3" \
                          " AND (?4 IS NULL OR state = ?4) ORDER BY id DESC LIMIT ?5")                  \
    X(DELIVERY_LIST_UP, "SELECT " DELIVERY_COLUMNS " FROM outbox WHERE team = ?1 AND webhook_id = ?2 AND id > ?3" \
                        " AND (?4 IS NULL OR state = ?4) ORDER BY id LIMIT ?5")                         \
    X(FORGET_DELIVERIES, "DELETE FROM outbox WHERE id IN (SELECT o.id FROM outbox o JOIN webhooks h ON h.id = o.webhook_id" \
                         " WHERE o.created_at < ?1 AND (o.state <> 'pending' OR h.disabled_at > 0) LIMIT 64)") \
    /* of a job that has ended long enough ago, or is gone */                                           \
    X(FORGET_WEBHOOKS, "DELETE FROM webhooks WHERE id IN (SELECT id FROM webhooks h WHERE job_id <> '' AND created_at < ?1" \
                       " AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = h.job_id AND j.state IN ('queued', 'running', 'canceling'))" \
                       " AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.webhook_id = h.id) LIMIT 64)")  \
    X(WEBHOOK_OF_NO_TEAM, "DELETE FROM webhooks WHERE team = ?1")                                       \
    /* the audit log */                                                                                 \
    X(AUDIT_LAST, "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")                              \
    X(AUDIT_INSERT, "INSERT INTO audit (" AUDIT_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)") \
    X(AUDIT_LIST, "SELECT " AUDIT_COLUMNS " FROM audit WHERE ?1 IS NULL AND seq > ?2 AND (?3 IS NULL OR token = ?3)" \
                  " ORDER BY seq LIMIT ?4")                                                             \
    X(AUDIT_LIST_TEAM, "SELECT " AUDIT_COLUMNS " FROM audit INDEXED BY audit_team WHERE team = ?1 AND seq > ?2" \
                       " AND (?3 IS NULL OR token = ?3) ORDER BY seq LIMIT ?4")                         \
    X(AUDIT_BACK, "SELECT " AUDIT_COLUMNS " FROM audit WHERE ?1 IS NULL AND seq < ?2 AND (?3 IS NULL OR token = ?3)" \
                  " ORDER BY seq DESC LIMIT ?4")                                                        \
    X(AUDIT_BACK_TEAM, "SELECT " AUDIT_COLUMNS " FROM audit INDEXED BY audit_team WHERE team = ?1 AND seq < ?2" \
                       " AND (?3 IS NULL OR token = ?3) ORDER BY seq DESC LIMIT ?4")                    \
    /* the last row before the first that is not older than ?1, if more than what was forgotten, and rows that say so, came before */ \
    X(AUDIT_OLD, "SELECT old.seq FROM (SELECT coalesce((SELECT seq FROM audit WHERE at >= ?1 ORDER BY seq LIMIT 1) - 1," \
                 " (SELECT max(seq) FROM audit)) AS seq) AS old"                                        \
                 " WHERE EXISTS (SELECT 1 FROM audit WHERE seq <= old.seq AND seq > " AUDIT_FORGOTTEN " AND action <> 'audit.forgotten')") \
    X(FORGET_AUDIT, "DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE seq <= " AUDIT_FORGOTTEN " AND at < ?1 ORDER BY seq LIMIT 256)")

/* ?3 ",queued,running," or NULL; ?4 an object of labels or NULL; ?5 a model or NULL */
#define JOB_FILTER                                                                                      \
    " AND (?3 IS NULL OR instr(?3, ',' || state || ','))"                                               \
    " AND (?4 IS NULL OR NOT EXISTS (SELECT 1 FROM json_each(?4) want WHERE NOT EXISTS"                 \
    " (SELECT 1 FROM json_each(jobs.labels) have WHERE have.key = want.key AND have.value = want.value)))" \
    " AND (?5 IS NULL OR model_id = ?5)"

enum sql {
#define X(name, text) SQL_##name,
    SQL_STATEMENTS(X)
#undef X
    SQL_COUNT
};

#endif
