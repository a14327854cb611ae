/* fuzz_child_event.c - libFuzzer over the lines that children write: what is refused says why, and of what is taken every member can be read. */
#include "server/child_event.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct child_event event;
    struct err e = { 0 };
    if (!child_event_parse((const char *)data, size, &event, &e)) {
        assert(e.code != ERR_NONE && e.text[0]);
        return 0;
    }
    assert(size <= CHILD_LINE_MAX && event.kind < EVENT_KINDS && e.code == ERR_NONE);
    assert(strlen(event.name) + strlen(event.code) + strlen(event.where) + strlen(event.detail) <= 4 * size);
    assert(event.kind != EVENT_PROGRESS || (event.done >= 0 && event.total >= 0));
    if (event.kind == EVENT_LAYER) {
        char *row = child_event_row(&event);
        json_t *again = row ? json_parse(row, strlen(row), 16, ERR_BUG, &e) : NULL;
        assert(json_is_object(again));
        json_decref(again);
        free(row);
    }
    child_event_release(&event);
    return 0;
}
