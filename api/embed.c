#include "api/embed.h"

/* The assembler reads the file; the Makefile lists it as a prerequisite of this object. */
#define EMBED(name, path)                                                              \
    __asm__(".section .rodata\n"                                                       \
            ".global embedded_" #name "\n.global embedded_" #name "_end\n"             \
            "embedded_" #name ":\n.incbin \"" path "\"\n"                              \
            "embedded_" #name "_end:\n.byte 0\n"                                       \
            ".previous\n");                                                            \
    extern const char embedded_##name[], embedded_##name##_end[];                      \
    struct embedded embed_##name(void)                                                 \
    {                                                                                  \
        return (struct embedded){ embedded_##name, (size_t)(embedded_##name##_end - embedded_##name) }; \
    }

EMBED(page, "api/page.html")
EMBED(style, "api/style.css")
EMBED(openapi, "api/openapi.json")
