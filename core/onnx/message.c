/*
 * message.c - reading by table, in two passes over a message's own fields (nested messages are stepped over by their
 * length, so each byte is looked at a bounded number of times however deep it lies):
 *
 *     measure()   wire types, counts                  nothing is allocated yet
 *     prepare()   limits and budgets, then the arrays
 *     fill()      values; nested messages are read here
 */
#include "core/onnx/message.h"

#include <stdio.h>
#include <string.h>

enum { FIELDS_MAX = 16, TEXT_BLOCK = 16 << 10, TEXT_SHORT = 1 << 10 };

/* Stores one field's payload at slot, which has room for all its elements. */
typedef bool store_fn(struct reader *r, const struct field *f, struct wire body, void *slot, struct err *e);

static store_fn store_ints, store_floats, store_name, store_text, store_string, store_bytes, store_message, store_new_message;

static const struct kind {
    enum wire_type wire;
    bool repeated;
    size_t size;             /* of one element of the array; 0: no array */
    store_fn *store;         /* NULL: only counted */
} kinds[] = {
    [FIELD_INT] = { WIRE_VARINT, false, 0, store_ints },
    [FIELD_FLOAT] = { WIRE_I32, false, 0, store_floats },
    [FIELD_NAME] = { WIRE_LEN, false, 0, store_name },
    [FIELD_TEXT] = { WIRE_LEN, false, 0, store_text },
    [FIELD_BYTES] = { WIRE_LEN, false, 0, store_bytes },
    [FIELD_MESSAGE] = { WIRE_LEN, false, 0, store_new_message },
    [FIELD_PRESENT] = { WIRE_LEN, false, 0, NULL },
    [FIELD_INTS] = { WIRE_VARINT, true, sizeof(int64_t), store_ints },
    [FIELD_FLOATS] = { WIRE_I32, true, sizeof(float), store_floats },
    [FIELD_NAMES] = { WIRE_LEN, true, sizeof(char *), store_name },
    [FIELD_STRINGS] = { WIRE_LEN, true, sizeof(char *), store_string },
    [FIELD_MESSAGES] = { WIRE_LEN, true, 0, store_message },
    [FIELD_MESSAGE_COUNT] = { WIRE_LEN, true, 0, NULL },
    [FIELD_VARINT_COUNT] = { WIRE_VARINT, true, 0, NULL },
    [FIELD_I32_COUNT] = { WIRE_I32, true, 0, NULL },
    [FIELD_I64_COUNT] = { WIRE_I64, true, 0, NULL },
};

static size_t element_size(const struct field *f) { return f->kind == FIELD_MESSAGES ? f->of->size : kinds[f->kind].size; }

/* Scalars of a repeated field may come one by one or packed into one payload, whatever the schema says. */
static bool may_be_packed(const struct kind *k) { return k->repeated && k->wire != WIRE_LEN; }

static uint64_t elements(const struct field *f, const struct wire *body)
{
    const struct kind *k = &kinds[f->kind];
    return may_be_packed(k) ? wire_count(body, k->wire) : 1;
}

static const struct field *find(const struct message *m, uint32_t number)
{
    for (size_t i = 0; i < m->n_fields; i++)
        if (m->fields[i].number == number)
            return &m->fields[i];
    return NULL;
}

bool reader_wire_ok(struct reader *r, struct err *e)
{
    if (!wire_failed(&r->wire))
        return true;
    return err_set(e, r->wire.code, reader_at(r, NULL), "%s at byte %llu; the file is damaged, cut short or not ONNX: upload it again",
                   r->wire.why, (unsigned long long)r->wire.at);
}

static bool measure_one(struct reader *r, const struct field *f, const struct wire_field *w, uint64_t *count, struct err *e)
{
    const struct kind *k = &kinds[f->kind];
    bool packed = may_be_packed(k) && w->type == WIRE_LEN;
    if (w->type != k->wire && !packed)
        return err_set(e, ERR_MODEL_FORMAT, reader_at(r, NULL), "field '%s' has wire type %d where %d belongs; the file is damaged or not ONNX",
                       f->label, (int)w->type, (int)k->wire);
    uint64_t n = elements(f, &w->body), width = k->wire == WIRE_I32 ? 4 : 8;
    if (packed && k->wire != WIRE_VARINT && wire_left(&w->body) % width)
        return err_set(e, ERR_MODEL_FORMAT, reader_at(r, NULL), "field '%s' holds %llu bytes, not a whole number of values",
                       f->label, (unsigned long long)wire_left(&w->body));
    *count += n;
    if (!k->repeated && *count > 1)
        return err_set(e, ERR_MODEL_FORMAT, reader_at(r, NULL), "field '%s' is given twice; save the model again", f->label);
    return true;
}

static bool measure(struct reader *r, const struct message *m, struct wire body, uint64_t counts[], struct err *e)
{
    struct wire_field w;
    while (wire_next(&body, &w)) {
        const struct field *f = find(m, w.number);
        if (f && !measure_one(r, f, &w, &counts[f - m->fields], e))
            return false;
    }
    return reader_wire_ok(r, e);
}

static bool charge(struct reader *r, const struct field *f, uint64_t count, struct err *e)
{
    if (f->limit && count > f->limit)
        return err_set(e, ERR_MODEL_LIMIT, reader_at(r, NULL), "field '%s' has %llu elements; at most %llu are accepted",
                       f->label, (unsigned long long)count, (unsigned long long)f->limit);
    enum budget b = f->of ? f->of->budget : BUDGET_NONE;
    if (b == BUDGET_NONE)
        return true;
    if (count > r->left[b])
        return err_set(e, ERR_MODEL_LIMIT, reader_at(r, NULL), "the model has more than %d %s; a smaller model is needed",
                       b == BUDGET_NODES ? ONNX_MAX_NODES : ONNX_MAX_TENSORS, b == BUDGET_NODES ? "nodes" : "tensors and value infos");
    r->left[b] -= count;
    return true;
}

static bool prepare_array(struct reader *r, size_t n, const struct field *f, char *to, struct err *e)
{
    void *array = arena_array(r->mem, n, element_size(f), e);
    if (array)
        memcpy(to, &array, sizeof array);
    return array != NULL;
}

static bool prepare(struct reader *r, const struct message *m, const uint64_t counts[], char *to, struct err *e)
{
    static const char *const empty = "";
    for (size_t i = 0; i < m->n_fields; i++) {
        const struct field *f = &m->fields[i];
        size_t n = (size_t)counts[i];
        if (!charge(r, f, n, e))
            return false;
        if (f->count_at)
            memcpy(to + f->count_at, &n, sizeof n);
        if (f->kind == FIELD_NAME || f->kind == FIELD_TEXT)
            memcpy(to + f->at, &empty, sizeof empty);
        if (n == 0 || element_size(f) == 0)
            continue;
        if (!prepare_array(r, n, f, to + f->at, e))
            return false;
    }
    return true;
}

static char *slot_of(const struct field *f, char *to, uint64_t index)
{
    if (!element_size(f))
        return to + f->at;
    char *array;                 /* NULL if the field came, but packed and with no element */
    memcpy(&array, to + f->at, sizeof array);
    return array ? array + index * element_size(f) : NULL;
}

static bool fill(struct reader *r, const struct message *m, struct wire body, char *to, struct err *e)
{
    uint64_t done[FIELDS_MAX] = { 0 };
    struct wire_field w;
    while (wire_next(&body, &w)) {
        const struct field *f = find(m, w.number);
        if (!f || !kinds[f->kind].store)
            continue;
        uint64_t *n = &done[f - m->fields];
        r->path[r->depth].label = f->label;
        r->path[r->depth].index = (size_t)*n;
        r->path[r->depth].repeated = kinds[f->kind].repeated;
        r->depth++;
        if (!kinds[f->kind].store(r, f, w.body, slot_of(f, to, *n), e) || !reader_wire_ok(r, e))
            return false;
        r->depth--;
        *n += elements(f, &w.body);
    }
    return reader_wire_ok(r, e);
}

bool message_read(struct reader *r, const struct message *m, struct wire body, void *to, struct err *e)
{
    uint64_t counts[FIELDS_MAX] = { 0 };
    if (r->depth >= READER_PATH_MAX || m->n_fields > FIELDS_MAX)
        return err_set(e, ERR_BUG, reader_at(r, NULL), "the reader's tables nest deeper than they were made for");
    return measure(r, m, body, counts, e) && prepare(r, m, counts, to, e) && fill(r, m, body, to, e);
}

static bool store_ints(struct reader *r, const struct field *f, struct wire body, void *slot, struct err *e)
{
    (void)r, (void)f, (void)e;
    uint64_t bits;
    for (int64_t *to = slot; wire_item(&body, WIRE_VARINT, &bits); to++)
        *to = (int64_t)bits;
    return true;
}

static bool store_floats(struct reader *r, const struct field *f, struct wire body, void *slot, struct err *e)
{
    (void)r, (void)f, (void)e;
    uint64_t bits;
    for (float *to = slot; wire_item(&body, WIRE_I32, &bits); to++)
        memcpy(to, &bits, sizeof *to);
    return true;
}

static bool store_chars(struct reader *r, struct wire body, size_t limit, bool utf8, void *slot, struct err *e)
{
    size_t n = (size_t)wire_left(&body);
    if (n > limit)
        return err_set(e, ERR_MODEL_LIMIT, reader_at(r, NULL), "a string has %zu bytes; at most %zu are accepted", n, limit);
    if (utf8 && !text_is_name((const char *)body.p, n))
        return err_set(e, ERR_MODEL_INVALID, reader_at(r, NULL), "a string is not valid UTF-8 or holds a NUL; rename it in the exporter");
    if (!utf8 && n && memchr(body.p, 0, n))
        return err_set(e, ERR_MODEL_INVALID, reader_at(r, NULL), "a string of the list holds a NUL, which is not supported");
    const char *copy = reader_copy(r, body.p, n, e);
    memcpy(slot, &copy, sizeof copy);
    return copy != NULL;
}

static bool store_name(struct reader *r, const struct field *f, struct wire body, void *slot, struct err *e)
{
    (void)f;
    return store_chars(r, body, ONNX_MAX_NAME, true, slot, e);
}

static bool store_text(struct reader *r, const struct field *f, struct wire body, void *slot, struct err *e)
{
    (void)f;
    return store_chars(r, body, ONNX_MAX_TEXT, true, slot, e);
}

static bool store_string(struct reader *r, const struct field *f, struct wire body, void *slot, struct err *e)
{
    (void)f;
    return store_chars(r, body, ONNX_MAX_TEXT, false, slot, e);
}

static bool store_bytes(struct reader *r, const struct field *f, struct wire body, void *slot, struct err *e)
{
    (void)r, (void)f, (void)e;
    *(struct span *)slot = (struct span){ body.p, (size_t)wire_left(&body) };
    return true;
}

static bool store_message(struct reader *r, const struct field *f, struct wire body, void *slot, struct err *e)
{
    return f->of->read ? f->of->read(r, body, slot, e) : message_read(r, f->of, body, slot, e);
}

static bool store_new_message(struct reader *r, const struct field *f, struct wire body, void *slot, struct err *e)
{
    void *block = arena_alloc(r->mem, f->of->size, e);
    memcpy(slot, &block, sizeof block);
    return block && store_message(r, f, body, block, e);
}

const char *reader_copy(struct reader *r, const void *p, size_t n, struct err *e)
{
    if (n == 0)
        return "";
    if (n >= TEXT_SHORT)
        return arena_strndup(r->mem, p, n, e);
    if (r->text_left <= n) {
        r->text = arena_alloc(r->mem, TEXT_BLOCK, e);
        r->text_left = r->text ? TEXT_BLOCK : 0;
    }
    if (!r->text)
        return NULL;
    char *copy = memcpy(r->text, p, n);          /* the block is zeroed: the NUL is there */
    r->text += n + 1;
    r->text_left -= n + 1;
    return copy;
}

const char *reader_at(struct reader *r, const char *name)
{
    enum { SHOWN = 4 };                          /* the innermost ones are what helps */
    char text[80];
    size_t n = 0, size = sizeof r->where;
    r->where[0] = '\0';
    for (int i = r->depth > SHOWN ? r->depth - SHOWN : 0; i < r->depth && n < size; i++) {
        n += (size_t)snprintf(r->where + n, size - n, "%s%s", n ? "." : "", r->path[i].label);
        if (r->path[i].repeated && n < size)
            n += (size_t)snprintf(r->where + n, size - n, "[%zu]", r->path[i].index);
    }
    if (name && name[0] && n < size)
        snprintf(r->where + n, size - n, "%s'%s'", n ? " " : "", text_printable(text, sizeof text, name, strlen(name)));
    return r->where;
}
