#include "api/rows.h"

#include "core/base/clock.h"

#include <string.h>

json_t *row_time(int64_t us)
{
    char text[CLOCK_RFC3339_SIZE];
    return us ? json_string(clock_rfc3339(us, text)) : json_null();
}

json_t *row_text(const char *text)
{
    return text && *text ? json_mended(text) : json_null();
}

json_t *row_stored(const char *json)
{
    return json ? json_read(json, JSON_DECODE_ANY) : json_null();
}

bool row_order(const char *order, struct err *e)
{
    return !order || route_lists("asc desc", order) || err_set(e, ERR_REQUEST_INVALID, "order", "\"order\" must be asc or desc");
}

bool row_page(const struct request *req, const char *prefix, struct page *ret, struct err *e)
{
    int64_t limit = 50;
    const char *cursor = request_query(req, "cursor"), *order = request_query(req, "order");
    if (!request_query_int(req, "limit", 1, 200, &limit, e))
        return false;
    if (cursor && !id_valid(cursor, prefix))
        return err_set(e, ERR_REQUEST_INVALID, "cursor", "take the cursor from next_cursor of the page before");
    if (!row_order(order, e))
        return false;
    *ret = (struct page){ .cursor = cursor, .limit = (int)limit, .ascending = order && strcmp(order, "asc") == 0 };
    return true;
}

bool reply_blob(struct reply *reply, const struct blob *b, struct err *e)
{
    reply_field(reply, "Location", "/v1/blobs/%s", b->digest);
    return reply_json(reply, b->existed ? 200 : 201,
                      json_pack("{s:s, s:I}", "digest", b->digest, "bytes", (json_int_t)b->size), e);
}

json_t *row_list(json_t *data, bool more, const char *last_id)
{
    return json_pack("{s:o, s:o}", "data", data, "next_cursor", more ? json_string(last_id) : json_null());
}
