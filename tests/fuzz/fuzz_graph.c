/*
 * Any bytes that the ONNX reader takes: loading them as a graph refuses them by name, or gives a graph that holds what
 * graph.h says of a loaded one.  Constants are not computed (the kernels are not what is looked at here).
 */
#include "tests/fuzz/mutate.h"

#include "core/base/arena.h"
#include "core/graph/graph.h"
#include "core/graph/roles.h"
#include "core/onnx/onnx.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MEMORY = 1 << 27 };

static void check_node(const struct graph *g, int at)
{
    const struct node *n = &g->nodes[at];
    assert((int)n->op < OPS_WRITTEN_OUT && !n->body && n->op != OP_CONSTANT && n->op != OP_DROPOUT);
    for (int i = 0; i < n->n_in; i++)
        assert(n->in[i] < g->n_values && (n->in[i] < 0 || g->values[n->in[i]].producer < at));
    for (int i = 0; i < n->n_out; i++)
        assert(n->out[i] < g->n_values && (n->out[i] < 0 || g->values[n->out[i]].producer == at));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    static mutator *const by[] = { mutate_wire, NULL };
    return mutate(by, data, size, max, seed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *mem = arena_new(MEMORY);
    struct onnx_file file = { "model.onnx", data, size, false };
    struct onnx_model m;
    struct roles roles;
    struct err e = { 0 };
    assert(mem);
    struct graph *g = onnx_read(mem, &file, 1, &m, &e) ? graph_load(mem, &m, NULL, &e) : NULL;
    for (int i = 0; g && i < g->n_nodes; i++)
        check_node(g, i);
    if (!g || !roles_find(g, mem, &roles, &e))
        assert(e.code != ERR_NONE && e.code != ERR_BUG && e.text[0]);
    arena_free(mem);
    return 0;
}
