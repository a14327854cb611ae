#include "core/data/labels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COLUMNS = 64, MAX_FIELD = 1024 };

struct reader {
    struct arena *mem;
    const char *at, *end;
    int line, file, label;                  /* file, label: the columns they stand in, -1: not found */
    char field[MAX_FIELD];
    struct err *e;
};

static bool bad(const struct reader *r, const char *what)
{
    char where[40];
    snprintf(where, sizeof where, "labels.csv:%d", r->line);
    return err_set(r->e, ERR_DATA_FORMAT, where, "%s", what);
}

/* One field into r->field; *ret_last: the line ends behind it. */
static bool next_field(struct reader *r, bool *ret_last)
{
    bool quoted = r->at < r->end && *r->at == '"';
    size_t n = 0;
    r->at += quoted;
    while (r->at < r->end && *r->at != '\n' && *r->at != '\r' && (quoted || *r->at != ',')) {
        if (quoted && *r->at == '"') {
            if (r->end - r->at < 2 || r->at[1] != '"')
                break;
            r->at++;                        /* "" is a quote */
        }
        if (n + 1 == MAX_FIELD || *r->at == '\0')
            return bad(r, "a field is too long or holds a NUL; save the file as plain CSV");
        r->field[n++] = *r->at++;
    }
    r->field[n] = '\0';
    if (quoted && (r->at == r->end || *r->at++ != '"'))
        return bad(r, "a quote is not closed");
    *ret_last = r->at == r->end || *r->at != ',';
    if (*ret_last && r->at < r->end && *r->at != '\r' && *r->at != '\n')
        return bad(r, "a comma is missing behind a quoted field");
    r->at += !*ret_last;
    return true;
}

static void next_line(struct reader *r)
{
    while (r->at < r->end && (*r->at == '\r' || *r->at == '\n'))
        r->line += *r->at++ == '\n';
}

static bool read_header(struct reader *r)
{
    bool last = false;
    if (r->end - r->at >= 3 && memcmp(r->at, "\xef\xbb\xbf", 3) == 0)
        r->at += 3;
    for (int i = 0; !last; i++) {
        if (i == MAX_COLUMNS || !next_field(r, &last))
            return bad(r, "more columns than make sense");
        if (strcmp(r->field, "file") == 0)
            r->file = i;
        else if (strcmp(r->field, "label") == 0)
            r->label = i;
    }
    if (r->file < 0 || r->label < 0)
        return bad(r, "the first line must be file,label");
    next_line(r);
    return true;
}

static bool take_label(struct reader *r, int64_t *ret)
{
    char *end;
    errno = 0;
    long long x = strtoll(r->field, &end, 10);
    if (errno || end == r->field || *end)
        return bad(r, "every label must be a whole number, the index of a class");
    *ret = x;
    return true;
}

static bool read_line(struct reader *r, struct label *ret)
{
    bool last = false;
    *ret = (struct label){ 0 };
    bool labelled = false;
    for (int i = 0; !last; i++) {
        if (i == MAX_COLUMNS || !next_field(r, &last))
            return bad(r, "more columns than make sense");
        if (i == r->file && !(ret->file = arena_strndup(r->mem, r->field, strlen(r->field), r->e)))
            return false;
        if (i == r->label && !(labelled = take_label(r, &ret->value)))
            return false;
    }
    return (ret->file && labelled) || bad(r, "the line needs a file and a label");
}

static int by_file(const void *a, const void *b) { return strcmp(((const struct label *)a)->file, ((const struct label *)b)->file); }

static size_t count_lines(const char *s, size_t n)
{
    size_t lines = 1;
    for (size_t i = 0; i < n; i++)
        lines += s[i] == '\n' || s[i] == '\r';
    return lines;
}

bool labels_parse(struct arena *mem, const char *csv, size_t n, struct labels *ret, struct err *e)
{
    struct reader r = { .mem = mem, .at = csv, .end = csv + n, .line = 1, .file = -1, .label = -1, .e = e };
    struct labels l = { .items = arena_array(mem, count_lines(csv, n), sizeof *l.items, e) };
    if (!l.items || !read_header(&r))
        return false;
    for (; r.at < r.end; next_line(&r))
        if (!read_line(&r, &l.items[l.n++]))
            return false;
    qsort(l.items, l.n, sizeof *l.items, by_file);
    for (size_t i = 1; i < l.n; i++)
        if (strcmp(l.items[i].file, l.items[i - 1].file) == 0)
            return err_set(e, ERR_DATA_FORMAT, "labels.csv", "\"%.100s\" has two lines; keep one", l.items[i].file);
    *ret = l;
    return true;
}

bool labels_find(const struct labels *l, const char *file, int64_t *ret)
{
    const struct label key = { .file = file }, *found = l->n ? bsearch(&key, l->items, l->n, sizeof *l->items, by_file) : NULL;
    if (found)
        *ret = found->value;
    return found;
}
