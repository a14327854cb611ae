/*
 * message.h - messages described by tables, and the loop that reads by them.
 *
 * A message of onnx.proto is a table of rows: field number, kind, and where in
 * a C struct the value goes.  message_read() does for all of them, once, what
 * a stranger's bytes need: it checks each field's wire type, refuses a second
 * value of a single field (readers disagree about which one counts), counts
 * repeated fields and holds them to their limit before it allocates, and skips
 * what no row knows.
 */
#ifndef CORE_ONNX_MESSAGE_H
#define CORE_ONNX_MESSAGE_H

#include "core/onnx/onnx.h"
#include "core/onnx/wire.h"

#include <stddef.h>

enum budget { BUDGET_NONE, BUDGET_NODES, BUDGET_TENSORS, BUDGETS };

/* A graph's attribute leads to the next graph by three messages; below the last one a value's dimension is the deepest. */
enum { READER_PATH_MAX = 3 * ONNX_MAX_DEPTH + 8 };

struct range;

/* One call of onnx_read(). */
struct reader {
    struct arena *mem;
    const struct onnx_file *files;
    size_t n_files;
    struct wire_state wire;
    uint64_t left[BUDGETS];                        /* elements each budget still allows */
    int graphs;                                    /* graphs that are open, one inside the other */
    bool in_function;                              /* attributes may refer to those of the call */
    struct { const char *label; size_t index; bool repeated; } path[READER_PATH_MAX];
    int depth;                                     /* of path */
    char where[sizeof((struct err *)0)->where];    /* what reader_at() returns */
    char *text;                                    /* room for short strings: arena blocks are 64 bytes each */
    size_t text_left;
    struct range *ranges;                          /* external data in use, see read_external.c */
    size_t n_ranges;
};

enum field_kind {
    FIELD_INT,         /* int64_t */
    FIELD_FLOAT,       /* float */
    FIELD_NAME,        /* const char *: ONNX_MAX_NAME; "" if absent */
    FIELD_TEXT,        /* const char *: ONNX_MAX_TEXT; "" if absent */
    FIELD_BYTES,       /* struct span, borrowed from the file */
    FIELD_MESSAGE,     /* struct ... *, NULL if absent */
    FIELD_PRESENT,     /* nothing but its count */
    /* repeated */
    FIELD_INTS,        /* int64_t * */
    FIELD_FLOATS,      /* float * */
    FIELD_NAMES,       /* const char ** */
    FIELD_STRINGS,     /* const char **: bytes without NUL, ONNX_MAX_TEXT each */
    FIELD_MESSAGES,    /* struct ... * */
    FIELD_MESSAGE_COUNT, FIELD_VARINT_COUNT, FIELD_I32_COUNT, FIELD_I64_COUNT,    /* nothing but their count */
};

struct message;

struct field {
    uint32_t number;
    enum field_kind kind;
    const char *label;             /* its name in onnx.proto */
    size_t at;                     /* offset of the value; unused by kinds that only count */
    size_t count_at;               /* offset of a size_t that gets the number of elements; 0: nobody asks */
    uint64_t limit;                /* of a repeated field; 0: only the size of the file */
    const struct message *of;      /* of messages */
};

struct message {
    const struct field *fields;
    size_t n_fields;
    size_t size;                   /* of the struct that the message becomes */
    enum budget budget;            /* what each one is charged to */
    /* Turns body into *ret (size zeroed bytes).  NULL: message_read() into *ret is all. */
    bool (*read)(struct reader *r, struct wire body, void *ret, struct err *e);
};

#define MESSAGE_FIELDS(rows) .fields = (rows), .n_fields = sizeof(rows) / sizeof(rows)[0]

struct span {
    const uint8_t *p;
    size_t n;
};

/* Bytes of a doc_string, metadata value or string attribute; what one message may hold of small things. */
enum { ONNX_MAX_TEXT = 1 << 20, MAX_GRAPHS = 1024 };

extern const struct message message_graph, message_tensor, message_value, message_attr, message_entry;

/* Reads body by m's table into the struct at `to`, which must be zeroed. */
bool message_read(struct reader *r, const struct message *m, struct wire body, void *to, struct err *e);

/* *e from the wire's failure, if there was one; true if there was none. */
bool reader_wire_ok(struct reader *r, struct err *e);

/* Where the reader is: "graph.node[17].attribute[0] 'axis'"; name may be NULL or "".  Valid until the next call. */
const char *reader_at(struct reader *r, const char *name);

/* A NUL-terminated copy in the arena. */
const char *reader_copy(struct reader *r, const void *p, size_t n, struct err *e);

/* s[0..n) as ASCII for an error text, "\xNN" for the rest, shortened with "..." to fit.  Returns buf. */
const char *text_printable(char *buf, size_t size, const char *s, size_t n);

/* A TensorProto.DataType that struct tensor can name, strings included. */
bool type_known(int64_t number);

/* Valid UTF-8 without NUL. */
bool text_is_name(const char *s, size_t n);

#endif
