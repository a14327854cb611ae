#include "api/embed.h"

#include <string.h>

/* The assembler reads the file; the Makefile lists it as a prerequisite of this object. */
#define BYTES(name, path)                                                              \
    __asm__(".section .rodata\n"                                                       \
            ".global embedded_" #name "\n.global embedded_" #name "_end\n"             \
            "embedded_" #name ":\n.incbin \"" path "\"\n"                              \
            "embedded_" #name "_end:\n.byte 0\n"                                       \
            ".previous\n");                                                            \
    extern const char embedded_##name[], embedded_##name##_end[];
#define EMBEDDED(name) (struct embedded){ embedded_##name, (size_t)(embedded_##name##_end - embedded_##name) }

BYTES(openapi, "api/openapi.json")

/* Every file of the dashboard. */
#define MODULES(X)                                                                     \
    X(admin) X(app) X(api) X(assets) X(chart) X(checks) X(compare) X(copy) X(dom) X(job) X(layer) \
    X(layers) X(live) X(login) X(new) X(overview) X(queue) X(recipe) X(repquant) X(rows) X(saved) X(upload) X(verdict) X(webhooks)
#define FILES(X)                                                                       \
    X(index_html, "index.html", "text/html; charset=utf-8")                            \
    X(style_css, "style.css", "text/css; charset=utf-8")                               \
    X(icon_svg, "icon.svg", "image/svg+xml")
/* Chart.js as Debian has it, and the parts of the offline report in one: the Makefile says where they are. */
#define MADE(X)                                                                        \
    X(chart_min_js, "chart.min.js", CHART_JS)                                          \
    X(offline_js, "offline.js", OFFLINE_JS)

#define X(name, file, type) BYTES(name, "api/dashboard/" file)
FILES(X)
#undef X
#define X(name) BYTES(name##_js, "api/dashboard/" #name ".js")
MODULES(X)
#undef X
#define X(name, file, path) BYTES(name, path)
MADE(X)
#undef X

struct embedded embed_openapi(void) { return EMBEDDED(openapi); }

bool embed_dashboard(const char *name, struct embedded *ret, const char **ret_type)
{
#define X(id, file, type) { file, type, embedded_##id, embedded_##id##_end },
#define M(id) { #id ".js", script, embedded_##id##_js, embedded_##id##_js_end },
#define Y(id, file, path) { file, script, embedded_##id, embedded_##id##_end },
    static const char script[] = "text/javascript; charset=utf-8";
    static const struct { const char *name, *type, *data, *end; } files[] = { FILES(X) MODULES(M) MADE(Y) };
#undef X
#undef M
#undef Y
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (strcmp(files[i].name, name) != 0)
            continue;
        *ret = (struct embedded){ files[i].data, (size_t)(files[i].end - files[i].data) };
        *ret_type = files[i].type;
        return true;
    }
    return false;
}
