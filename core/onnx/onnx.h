/*
 * onnx.h - the ONNX wire format, read from and written to memory.
 *
 * This folder knows protobuf and the messages of onnx.proto; it does not know
 * what an operator means (core/graph does).  One family of structs serves both
 * directions: onnx_read() fills them with views into the caller's bytes,
 * onnx_write() takes them from whoever built them.
 *
 * Ownership: names are NUL-terminated copies in the arena; tensor bytes are
 * borrowed from the mapped files whenever the file holds them as raw
 * little-endian data that happens to lie aligned to the element size.  They
 * are copied into the arena if it does not (protobuf aligns nothing), and
 * converted there from typed fields such as float_data.  A 4-bit or byte
 * tensor is always borrowed.  Mappings and arena must outlive the model, and
 * nobody writes through t.data of a model that was read.
 *
 * Every byte is a stranger's: the reader is bounded in depth, counts and sizes
 * (limits below), and checks before it allocates.
 */
#ifndef CORE_ONNX_ONNX_H
#define CORE_ONNX_ONNX_H

#include "core/base/arena.h"
#include "core/base/tensor.h"

enum {
    ONNX_MAX_DEPTH = 32,               /* graphs inside graphs, the outermost (or a function) included; nothing else nests freely */
    ONNX_MAX_NODES = 1 << 18,          /* over all graphs and functions */
    ONNX_MAX_TENSORS = 1 << 18,        /* tensors and value infos together, over all graphs */
    ONNX_MAX_FIELDS = 1 << 24,         /* wire fields read in all; each is read twice, see message.c */
    ONNX_MAX_LIST = 1 << 20,           /* elements of one ints/floats/strings attribute */
    ONNX_MAX_NAME = 4096,              /* bytes; no NUL, valid UTF-8 */
    ONNX_MAX_FILES = 64,
};

/* One file of a model as it was uploaded: the model itself first, external data by the name the model uses. */
struct onnx_file {
    const char *name;                  /* "model.onnx", "weights/part1.bin" */
    const uint8_t *data;
    uint64_t size;
    bool mapped;                       /* from a struct mapping: what has been copied may leave memory (mapping_rest) */
};

struct onnx_tensor {
    const char *name;
    struct tensor t;                   /* t.data has exactly the bytes of shape x type; NULL only when that is 0 bytes */
    bool external;                     /* read: the bytes came from another file */
};

enum onnx_attr_type {                  /* AttributeProto.AttributeType */
    ONNX_FLOAT = 1, ONNX_INT = 2, ONNX_STRING = 3, ONNX_TENSOR = 4, ONNX_GRAPH = 5,
    ONNX_FLOATS = 6, ONNX_INTS = 7, ONNX_STRINGS = 8, ONNX_TENSORS = 9, ONNX_GRAPHS = 10,
};

struct onnx_graph;

struct onnx_attr {
    const char *name;
    enum onnx_attr_type type;
    float f;
    int64_t i;
    const char *s; size_t s_n;         /* a STRING's bytes: may hold NULs, always NUL-terminated too */
    const struct onnx_tensor *t;       /* one; of a TENSORS, an array of n */
    const struct onnx_graph *g;        /* one; of a GRAPHS, an array of n */
    size_t n;                          /* of the list types */
    const float *floats;
    const int64_t *ints;
    const char *const *strings;        /* with embedded NULs refused */
    const char *ref;                   /* in a function's body: the value is this attribute of the call's; NULL: it is here */
};

struct onnx_node {
    const char *name, *op_type, *domain;   /* domain "" is the standard one ("ai.onnx" is read as "") */
    const char **inputs, **outputs;        /* "" where an optional one is absent */
    size_t n_inputs, n_outputs;
    struct onnx_attr *attrs;
    size_t n_attrs;
    const char *overload;                  /* of the function it calls; NULL or "" for almost all */
};

struct onnx_value {                        /* ValueInfoProto of a tensor */
    const char *name;
    enum dtype dtype;                      /* DT_NONE if unset */
    struct shape shape;                    /* rank -1: no shape; dim -1: symbolic or unknown */
    const char *dim_param[TENSOR_MAX_RANK];/* the symbol's name, or "" */
};

struct onnx_graph {
    const char *name;
    struct onnx_node *nodes;           size_t n_nodes;
    struct onnx_tensor *initializers;  size_t n_initializers;
    struct onnx_value *inputs;         size_t n_inputs;       /* may repeat initializers (IR 3) */
    struct onnx_value *outputs;        size_t n_outputs;
    struct onnx_value *values;         size_t n_values;       /* value_info: a hint, never trusted */
};

/* A model-local function: an operator written as others.  Its body sees its inputs, nothing else of the model. */
struct onnx_function {
    const char *name, *domain, *overload;
    const char **inputs, **outputs;
    size_t n_inputs, n_outputs;
    const char **attrs;                size_t n_attrs;        /* names a call may set */
    struct onnx_attr *defaults;        size_t n_defaults;     /* what those and others are where a call does not */
    struct onnx_node *nodes;           size_t n_nodes;
    struct onnx_opset *opsets;         size_t n_opsets;
};

struct onnx_pair { const char *key, *value; };

struct onnx_opset { const char *domain; int64_t version; };    /* each domain once */

struct onnx_model {
    int64_t ir_version;
    const char *producer_name, *producer_version, *doc;
    struct onnx_opset *opsets;   size_t n_opsets;
    struct onnx_pair *metadata;  size_t n_metadata;
    struct onnx_graph graph;
    struct onnx_function *functions; size_t n_functions;    /* read, never written: core/graph puts bodies in place of calls */
    bool uses[ONNX_MAX_FILES];                              /* read: files[i] has data of a tensor; the model itself always */
};

/* The version of the standard operator set, or 0. */
int64_t onnx_opset(const struct onnx_model *m);

/*
 * Reads files[0] as a model; tensors with external data are looked up by name
 * in files[1..n).  No path is ever opened.  Refused besides what breaks the
 * wire format: IR versions outside 3 to 14, no opset, a single field given
 * twice, sparse initializers, training_info, tensors of strings, values that
 * are not tensors, external ranges that overlap in part.  Left to core/graph:
 * names that clash or do not exist, the order of nodes, what an opset allows.
 * Errors: ERR_MODEL_FORMAT (not ONNX; says what the file is, see onnx_sniff),
 * ERR_MODEL_INVALID, ERR_MODEL_LIMIT, ERR_MODEL_EXTERNAL, ERR_MEMORY.
 */
bool onnx_read(struct arena *mem, const struct onnx_file *files, size_t n_files,
               struct onnx_model *ret, struct err *e);

/* What a file that is not ONNX probably is and what to do: "a PyTorch pickle; export it with
 * torch.onnx.export (see README)"; NULL if nothing is recognised.  Looks at the first bytes only. */
const char *onnx_sniff(const uint8_t *data, uint64_t size);

/* Where written bytes go. */
struct onnx_sink {
    bool (*write)(void *arg, const void *p, size_t n, struct err *e);
    void *arg;
};

/*
 * Writes the model as one protobuf message, deterministic to the byte; tensors
 * go out as raw_data, streamed from where they are.  ERR_EXPORT_FORM if the
 * message would reach 2 GiB.
 */
bool onnx_write(const struct onnx_model *m, const struct onnx_sink *sink, struct err *e);

#endif
