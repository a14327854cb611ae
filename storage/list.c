#include "storage/inner.h"

#include <stdlib.h>
#include <string.h>

bool err_clean(const struct err *why, struct err *e)
{
    return why->code == ERR_NONE || err_set(e, why->code, why->where, "%s", why->text);
}

/* Doubles at every power of two, so the room follows from n alone. */
bool list_grow(void *items, size_t n, size_t size, struct err *e)
{
    char **array = items;
    if ((n & (n - 1)) == 0) {
        char *more = realloc(*array, (n ? 2 * n : 1) * size);
        if (!more)
            return err_sys(e, "list", "grow");
        *array = more;
    }
    memset(*array + n * size, 0, size);
    return true;
}

const char *page_start(struct page page)
{
    if (page.cursor && page.cursor[0])
        return page.cursor;
    return page.ascending ? "" : "~";       /* '~' sorts behind every id */
}
