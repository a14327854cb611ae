/* embed.h - files that are part of the program. */
#ifndef API_EMBED_H
#define API_EMBED_H

#include <stdbool.h>
#include <stddef.h>

struct embedded {
    const char *data;       /* static */
    size_t size;
};

struct embedded embed_openapi(void);    /* api/openapi.json */

/* The file of this name in api/dashboard/ and its media type (static).  False: there is none. */
bool embed_dashboard(const char *name, struct embedded *ret, const char **ret_type);

#endif
