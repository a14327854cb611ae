/* embed.h - files that are part of the program. */
#ifndef API_EMBED_H
#define API_EMBED_H

#include <stddef.h>

struct embedded {
    const char *data;       /* static */
    size_t size;
};

struct embedded embed_page(void);       /* api/page.html */
struct embedded embed_style(void);      /* api/style.css */
struct embedded embed_openapi(void);    /* api/openapi.json */

#endif
