/* expand_legacy.c - what opsets 11 and 12 wrote otherwise, in the form of 13: lists as inputs, softmax along one axis. */
#include "core/graph/expand.h"

#include <string.h>

/* The attribute `name`, which has become input 1. */
static void list_as_input(struct expansion *s, const struct node *n, const char *name, int *ret)
{
    struct node copy = *n;
    struct onnx_attr *left = arena_array(s->g->mem, n->n_attrs, sizeof *left, s->e);
    int *in = arena_array(s->g->mem, 2, sizeof *in, s->e);
    size_t n_list;
    const int64_t *list = node_ints(n, name, &n_list);
    if (!left || !in || n_list > NODE_MAX_ARITY)
        return ex_fail(s, n, "its list of axes or sizes is too long");
    copy.n_attrs = 0;
    for (size_t i = 0; i < n->n_attrs; i++)
        if (strcmp(n->attrs[i].name, name) != 0)
            left[copy.n_attrs++] = n->attrs[i];
    copy.attrs = left;
    in[0] = n->in[0];
    in[1] = ex_ints(s, list, (int)n_list);
    copy.in = in;
    copy.n_in = 2;
    /* It keeps its own outputs: there may be many. */
    if (!s->failed && expand_node(s, &copy))
        for (int k = 0; k < n->n_out && k < EXPAND_OUTPUTS; k++)
            ret[k] = n->out[k];
}

void expand_axes_attr(struct expansion *s, const struct node *n, int *ret) { list_as_input(s, n, "axes", ret); }
void expand_split_attr(struct expansion *s, const struct node *n, int *ret) { list_as_input(s, n, "split", ret); }

/* Everything from the axis on was one row. */
void expand_old_softmax(struct expansion *s, const struct node *n, int *ret)
{
    int64_t axis = node_int(n, "axis", 1);
    int rank = ex_rank(s, n, n->in[0]);
    if (s->failed || axis < -rank || axis > rank)
        return ex_fail(s, n, "its axis is outside its input");
    axis = axis < 0 ? axis + rank : axis;
    struct ex_attrs last = EX_ATTRS(EX_INT("axis", -1));
    if (axis == rank - 1) {
        ret[0] = EX_WITH(n->op, last, n->in[0]);
        return;
    }
    int rows = EX_WITH(OP_FLATTEN, EX_ATTRS(EX_INT("axis", axis)), n->in[0]);
    ret[0] = EX(OP_RESHAPE, EX_WITH(n->op, last, rows), EX(OP_SHAPE, n->in[0]));
}
