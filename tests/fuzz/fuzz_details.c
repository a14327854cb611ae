/* fuzz_details.c - libFuzzer over details.json, a job's product: any bytes, of which one entry is asked for. */
#include "api/details.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct err e = { 0 };
    int64_t index = data[0] % 4;
    char *text = malloc(size);          /* just as long, so that a read beyond it is seen */
    assert(text);
    memcpy(text, data + 1, size - 1);
    json_t *entry = details_find(text, size - 1, index, &e);
    free(text);
    if (entry)
        assert(json_is_object(entry) && json_integer_value(json_object_get(entry, "index")) == index);
    else
        assert(e.code != ERR_NONE && e.text[0]);
    json_decref(entry);
    return 0;
}
