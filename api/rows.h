/* rows.h - how rows look as JSON: the pieces several handlers share.  What is made is new; NULL is out of memory. */
#ifndef API_ROWS_H
#define API_ROWS_H

#include "api/request.h"
#include "storage/store.h"

json_t *row_time(int64_t us);                 /* RFC 3339, or null for 0 */
json_t *row_text(const char *text);           /* null for "" and NULL; json_mended() */
json_t *row_stored(const char *json);         /* JSON that was stored as text; null for NULL */

/* asc, desc or NULL. */
bool row_order(const char *order, struct err *e);
/* limit, cursor and order of a list; `prefix` is what an id of the list starts with. */
bool row_page(const struct request *req, const char *prefix, struct page *ret, struct err *e);

/* Answers with a blob that was stored (201), or was the team's already (200). */
bool reply_blob(struct reply *reply, const struct blob *b, struct err *e);

/* {data, next_cursor}; takes `data`. */
json_t *row_list(json_t *data, bool more, const char *last_id);

#endif
