#include "core/base/err.h"

#include "core/base/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *slug, *title;
    short status, exit_code;
    bool retryable;
} codes[ERR_CODES_END] = {
    [ERR_NONE] = { "", "", 200, 0, false },
#define X(name, code, status, exit, retry, title) [ERR_##name] = { code, title, status, exit, retry },
    ERR_CODES(X)
#undef X
};

bool (err_set)(struct err *e, enum err_code code, const char *where, const char *fmt, ...)
{
    if (!e || e->code != ERR_NONE)
        return false;
    e->code = code;
    snprintf(e->where, sizeof e->where, "%s", where ? where : "");
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    utf8_mend(e->where);        /* both are cut, hold what strangers sent, and become JSON */
    utf8_mend(e->text);
    return false;
}

static enum err_code code_of_errno(int error)
{
    switch (error) {
    case ENOMEM: return ERR_MEMORY;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return ERR_DISK;
    case EACCES:
    case EPERM:
    case EROFS: return ERR_PERMISSION;
    case ENOENT:
    case ENOTDIR: return ERR_NO_FILE;
    default: return ERR_IO;
    }
}

bool (err_sys)(struct err *e, const char *where, const char *what)
{
    int error = errno;
    char text[96];
    return err_set(e, code_of_errno(error), where, "%s: %s", what, strerror_r(error, text, sizeof text));
}

const char *err_node(char *buf, size_t size, size_t index, const char *name, const char *op)
{
    enum { NAME_MAX_BYTES = 80, OP_MAX_BYTES = 40 };
    int op_n = (int)utf8_fit(op, OP_MAX_BYTES);
    if (name && name[0])
        snprintf(buf, size, "node %zu '%.*s' (%.*s)", index, (int)utf8_fit(name, NAME_MAX_BYTES), name, op_n, op);
    else
        snprintf(buf, size, "node %zu (%.*s)", index, op_n, op);
    return buf;
}

static enum err_code checked(enum err_code code)
{
    return (unsigned)code < ERR_CODES_END ? code : ERR_BUG;
}

const char *err_slug(enum err_code code) { return codes[checked(code)].slug; }
const char *err_title(enum err_code code) { return codes[checked(code)].title; }
int err_http_status(enum err_code code) { return codes[checked(code)].status; }
int err_exit_code(enum err_code code) { return codes[checked(code)].exit_code; }
bool err_retryable(enum err_code code) { return codes[checked(code)].retryable; }

enum err_code err_from_slug(const char *slug)
{
    for (int i = ERR_NONE + 1; i < ERR_CODES_END; i++)
        if (strcmp(codes[i].slug, slug) == 0)
            return (enum err_code)i;
    return ERR_NONE;
}
