/* read.c - onnx_read(): the model, its graphs, functions and nodes. */
#include "core/onnx/read.h"
#include "core/onnx/rows.h"

#include <assert.h>
#include <string.h>

enum { MAX_OPSETS = 64, MAX_METADATA = 1 << 16, MAX_FUNCTIONS = 10000, MAX_ATTRS = 1024, MAX_PORTS = 1 << 16 };

/* ---- pairs and opsets ---- */

static const struct field entry_fields[] = {
    ONE(ENTRY_KEY, "key", FIELD_NAME, struct onnx_pair, key),
    ONE(ENTRY_VALUE, "value", FIELD_TEXT, struct onnx_pair, value),
};
const struct message message_entry = { MESSAGE_FIELDS(entry_fields), .size = sizeof(struct onnx_pair) };

/* "ai.onnx" is the standard domain's other name. */
static const char *canonical(const char *domain) { return strcmp(domain, "ai.onnx") == 0 ? "" : domain; }

static const struct field opset_fields[] = {
    ONE(OPSET_DOMAIN, "domain", FIELD_NAME, struct onnx_opset, domain),
    ONE(OPSET_VERSION, "version", FIELD_INT, struct onnx_opset, version),
};

static bool opset_read(struct reader *r, struct wire body, void *ret, struct err *e);
static const struct message message_opset = { MESSAGE_FIELDS(opset_fields), .size = sizeof(struct onnx_opset), .read = opset_read };

static bool opset_read(struct reader *r, struct wire body, void *ret, struct err *e)
{
    struct onnx_opset *o = ret;
    if (!message_read(r, &message_opset, body, o, e))
        return false;
    o->domain = canonical(o->domain);
    if (o->version < 1 || o->version > INT32_MAX)
        return err_set(e, ERR_MODEL_INVALID, reader_at(r, o->domain), "opset version %lld is not possible; export the model again",
                       (long long)o->version);
    return true;
}

/* ---- nodes ---- */

static const struct field node_fields[] = {
    MANY(NODE_INPUT, "input", FIELD_NAMES, struct onnx_node, inputs, n_inputs, MAX_PORTS),
    MANY(NODE_OUTPUT, "output", FIELD_NAMES, struct onnx_node, outputs, n_outputs, MAX_PORTS),
    ONE(NODE_NAME, "name", FIELD_NAME, struct onnx_node, name),
    ONE(NODE_OP_TYPE, "op_type", FIELD_NAME, struct onnx_node, op_type),
    MESSAGES(NODE_ATTRIBUTE, "attribute", &message_attr, struct onnx_node, attrs, n_attrs, MAX_ATTRS),
    ONE(NODE_DOMAIN, "domain", FIELD_NAME, struct onnx_node, domain),
    ONE(NODE_OVERLOAD, "overload", FIELD_NAME, struct onnx_node, overload),
};

static bool node_read(struct reader *r, struct wire body, void *ret, struct err *e);
static const struct message message_node = {
    MESSAGE_FIELDS(node_fields), .size = sizeof(struct onnx_node), .budget = BUDGET_NODES, .read = node_read,
};

static bool node_read(struct reader *r, struct wire body, void *ret, struct err *e)
{
    struct onnx_node *n = ret;
    if (!message_read(r, &message_node, body, n, e))
        return false;
    n->domain = canonical(n->domain);
    if (!n->op_type[0])
        return err_set(e, ERR_MODEL_INVALID, reader_at(r, n->name), "the node has no op_type; export the model again");
    return true;
}

/* ---- graphs ---- */

/* Of a sparse initializer only the name is of interest: it is refused. */
struct sparse_values { const char *name; };
struct sparse { const struct sparse_values *values; };

static const struct field sparse_values_fields[] = { ONE(TENSOR_NAME, "name", FIELD_NAME, struct sparse_values, name) };
static const struct message message_sparse_values = { MESSAGE_FIELDS(sparse_values_fields), .size = sizeof(struct sparse_values) };
static const struct field sparse_fields[] = { NESTED(SPARSE_VALUES, "values", &message_sparse_values, struct sparse, values) };

static bool sparse_read(struct reader *r, struct wire body, void *ret, struct err *e);
static const struct message message_sparse = { MESSAGE_FIELDS(sparse_fields), .size = sizeof(struct sparse), .read = sparse_read };

static bool sparse_read(struct reader *r, struct wire body, void *ret, struct err *e)
{
    struct sparse *s = ret;
    if (!message_read(r, &message_sparse, body, s, e))
        return false;
    return err_set(e, ERR_MODEL_INVALID, reader_at(r, s->values ? s->values->name : ""),
                   "sparse initializers are not supported; store the tensor densely");
}

struct wire_graph {
    struct onnx_graph g;
    struct sparse *sparse;
    size_t n_sparse;
};

static const struct field graph_fields[] = {
    MESSAGES(GRAPH_NODE, "node", &message_node, struct wire_graph, g.nodes, g.n_nodes, 0),
    ONE(GRAPH_NAME, "name", FIELD_NAME, struct wire_graph, g.name),
    MESSAGES(GRAPH_INITIALIZER, "initializer", &message_tensor, struct wire_graph, g.initializers, g.n_initializers, 0),
    MESSAGES(GRAPH_INPUT, "input", &message_value, struct wire_graph, g.inputs, g.n_inputs, 0),
    MESSAGES(GRAPH_OUTPUT, "output", &message_value, struct wire_graph, g.outputs, g.n_outputs, 0),
    MESSAGES(GRAPH_VALUE_INFO, "value_info", &message_value, struct wire_graph, g.values, g.n_values, 0),
    MESSAGES(GRAPH_SPARSE_INITIALIZER, "sparse_initializer", &message_sparse, struct wire_graph, sparse, n_sparse, 1 << 10),
};

static bool graph_read(struct reader *r, struct wire body, void *ret, struct err *e);
const struct message message_graph = { MESSAGE_FIELDS(graph_fields), .size = sizeof(struct onnx_graph), .read = graph_read };

static bool graph_read(struct reader *r, struct wire body, void *ret, struct err *e)
{
    static const struct message as_wire = { MESSAGE_FIELDS(graph_fields), .size = sizeof(struct wire_graph) };
    struct wire_graph w = { 0 };
    if (r->graphs >= ONNX_MAX_DEPTH)
        return err_set(e, ERR_MODEL_LIMIT, reader_at(r, NULL), "graphs are nested more than %d deep", ONNX_MAX_DEPTH);
    r->graphs++;
    if (!message_read(r, &as_wire, body, &w, e))
        return false;
    r->graphs--;
    for (size_t i = 0; i < w.g.n_initializers; i++)
        if (!w.g.initializers[i].name[0])
            return err_set(e, ERR_MODEL_INVALID, reader_at(r, NULL), "initializer %zu has no name; export the model again", i);
    *(struct onnx_graph *)ret = w.g;
    return true;
}

/* ---- functions ---- */

#define F struct onnx_function
static const struct field function_fields[] = {
    ONE(FUNCTION_NAME, "name", FIELD_NAME, F, name),
    ONE(FUNCTION_DOMAIN, "domain", FIELD_NAME, F, domain),
    ONE(FUNCTION_OVERLOAD, "overload", FIELD_NAME, F, overload),
    MANY(FUNCTION_INPUT, "input", FIELD_NAMES, F, inputs, n_inputs, MAX_PORTS),
    MANY(FUNCTION_OUTPUT, "output", FIELD_NAMES, F, outputs, n_outputs, MAX_PORTS),
    MANY(FUNCTION_ATTRIBUTE, "attribute", FIELD_NAMES, F, attrs, n_attrs, MAX_ATTRS),
    MESSAGES(FUNCTION_ATTRIBUTE_PROTO, "attribute_proto", &message_attr, F, defaults, n_defaults, MAX_ATTRS),
    MESSAGES(FUNCTION_NODE, "node", &message_node, F, nodes, n_nodes, 0),
    MESSAGES(FUNCTION_OPSET_IMPORT, "opset_import", &message_opset, F, opsets, n_opsets, MAX_OPSETS),
};
#undef F

static bool function_read(struct reader *r, struct wire body, void *ret, struct err *e);
static const struct message message_function = { MESSAGE_FIELDS(function_fields), .size = sizeof(struct onnx_function), .read = function_read };

static bool function_read(struct reader *r, struct wire body, void *ret, struct err *e)
{
    struct onnx_function *f = ret;
    r->graphs++;
    r->in_function = true;
    if (!message_read(r, &message_function, body, f, e))
        return false;
    r->in_function = false;
    r->graphs--;
    f->domain = canonical(f->domain);
    if (!f->name[0])
        return err_set(e, ERR_MODEL_INVALID, reader_at(r, NULL), "the function has no name; export the model again");
    return true;
}

/* ---- the model ---- */

struct wire_model {
    struct onnx_model m;
    const struct onnx_graph *graph;
    size_t n_training;
};

static const struct field model_fields[] = {
    ONE(MODEL_IR_VERSION, "ir_version", FIELD_INT, struct wire_model, m.ir_version),
    ONE(MODEL_PRODUCER_NAME, "producer_name", FIELD_NAME, struct wire_model, m.producer_name),
    ONE(MODEL_PRODUCER_VERSION, "producer_version", FIELD_NAME, struct wire_model, m.producer_version),
    ONE(MODEL_DOC_STRING, "doc_string", FIELD_TEXT, struct wire_model, m.doc),
    NESTED(MODEL_GRAPH, "graph", &message_graph, struct wire_model, graph),
    MESSAGES(MODEL_OPSET_IMPORT, "opset_import", &message_opset, struct wire_model, m.opsets, m.n_opsets, MAX_OPSETS),
    MESSAGES(MODEL_METADATA_PROPS, "metadata_props", &message_entry, struct wire_model, m.metadata, m.n_metadata, MAX_METADATA),
    COUNT(MODEL_TRAINING_INFO, "training_info", FIELD_MESSAGE_COUNT, struct wire_model, n_training),
    MESSAGES(MODEL_FUNCTIONS, "functions", &message_function, struct wire_model, m.functions, m.n_functions, MAX_FUNCTIONS),
};
static const struct message message_model = { MESSAGE_FIELDS(model_fields), .size = sizeof(struct wire_model) };

static bool check_opsets(const struct onnx_model *m, struct err *e)
{
    if (m->n_opsets == 0)
        return err_set(e, ERR_MODEL_INVALID, "opset_import", "the model imports no operator set; export it again");
    for (size_t i = 1; i < m->n_opsets; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(m->opsets[i].domain, m->opsets[k].domain) == 0)
                return err_set(e, ERR_MODEL_INVALID, "opset_import", "the operator set of entry %zu is imported twice; export the model again", i);
    return true;
}

static bool check_model(const struct wire_model *w, struct err *e)
{
    const struct onnx_model *m = &w->m;
    if (m->ir_version == 0 && !w->graph)
        return err_set(e, ERR_MODEL_FORMAT, "", "the file has no graph and no ir_version, so it is not an ONNX model; upload the .onnx file");
    if (m->ir_version < IR_VERSION_MIN || m->ir_version > IR_VERSION_MAX)
        return err_set(e, ERR_MODEL_INVALID, "ir_version", "IR version %lld is outside %d to %d; export the model with another version of the exporter",
                       (long long)m->ir_version, IR_VERSION_MIN, IR_VERSION_MAX);
    if (w->n_training)
        return err_set(e, ERR_MODEL_INVALID, "training_info", "training information is not supported; export the inference graph alone");
    if (!w->graph || (w->graph->n_nodes == 0 && w->graph->n_outputs == 0))
        return err_set(e, ERR_MODEL_INVALID, "graph", "the model has no graph with nodes or outputs; export it again");
    return check_opsets(m, e);
}

static bool read_model(struct reader *r, struct onnx_model *ret, struct err *e)
{
    const struct onnx_file *file = &r->files[0];
    struct wire body = { file->data, file->data + file->size, &r->wire };
    struct wire_model w = { 0 };
    if (!message_read(r, &message_model, body, &w, e) || !check_model(&w, e) || !external_check(r, w.m.uses, e))
        return false;
    w.m.graph = *w.graph;
    *ret = w.m;
    return true;
}

bool onnx_read(struct arena *mem, const struct onnx_file *files, size_t n_files, struct onnx_model *ret, struct err *e)
{
    assert(n_files > 0);
    const struct onnx_file *file = &files[0];
    if (n_files > ONNX_MAX_FILES)
        return err_set(e, ERR_MODEL_LIMIT, file->name, "the model has %zu files; at most %d are accepted", n_files, ONNX_MAX_FILES);
    if (file->size == 0)
        return err_set(e, ERR_MODEL_FORMAT, file->name, "the file is %s", onnx_sniff(NULL, 0));

    struct reader r = {
        .mem = mem, .files = files, .n_files = n_files,
        .wire = { .file = file->data, .fields_left = ONNX_MAX_FIELDS },
        .left = { [BUDGET_NODES] = ONNX_MAX_NODES, [BUDGET_TENSORS] = ONNX_MAX_TENSORS },
    };
    struct err why = { 0 };
    if (read_model(&r, ret, &why))
        return true;
    /* What the file is instead helps more than the byte where it stopped looking like ONNX. */
    const char *other = why.code == ERR_MODEL_FORMAT ? onnx_sniff(file->data, file->size) : NULL;
    if (other)
        return err_set(e, ERR_MODEL_FORMAT, file->name, "the file is %s", other);
    return err_set(e, why.code, why.where, "%s", why.text);
}

int64_t onnx_opset(const struct onnx_model *m)
{
    for (size_t i = 0; i < m->n_opsets; i++)
        if (!m->opsets[i].domain[0])
            return m->opsets[i].version;
    return 0;
}
