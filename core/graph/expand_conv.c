/*
 * expand_conv.c - a convolution over one dimension (the first layers of Whisper and wav2vec), written as one over two
 * with a height of 1: the form that is quantized, and that runtimes have integer kernels for.
 */
#include "core/graph/expand.h"

#include <string.h>

static bool has_length(const struct node *n, const char *name, size_t length)
{
    size_t count;
    return !node_ints(n, name, &count) || count == length;
}

/* What stays in float, or is refused, keeps its form. */
bool conv_is_row(const struct expansion *s, const struct node *n)
{
    const struct fact *x = ex_fact(s, n->in[0]), *w = ex_fact(s, n->in[1]);
    return x->shape.rank == 3 && w->shape.rank == 3 && x->dtype == DT_F32 && w->dtype == DT_F32 && w->known && !x->known &&
           node_int(n, "group", 1) == 1 && !node_auto_pads(n) && has_length(n, "kernel_shape", 1) && has_length(n, "strides", 1) &&
           has_length(n, "dilations", 1) && has_length(n, "pads", 2);
}

/* The list of `halves` numbers with `first` in front of each; an absent one stays absent. */
static void widen(const struct node *n, const char *name, int halves, int64_t first, int64_t room[4], struct onnx_attr *list, size_t *n_list)
{
    size_t count;
    const int64_t *old = node_ints(n, name, &count);
    if (!old)
        return;
    for (int i = 0; i < halves; i++) {
        room[2 * i] = first;
        room[2 * i + 1] = old[i];
    }
    list[(*n_list)++] = EX_INTS(name, room, 2 * (size_t)halves);
}

void expand_conv_row(struct expansion *s, const struct node *n, int *ret)
{
    int64_t room[4][4];
    struct onnx_attr list[4];
    size_t n_list = 0;
    widen(n, "kernel_shape", 1, 1, room[0], list, &n_list);
    widen(n, "strides", 1, 1, room[1], list, &n_list);
    widen(n, "dilations", 1, 1, room[2], list, &n_list);
    widen(n, "pads", 2, 0, room[3], list, &n_list);
    int x = ex_unsqueeze(s, n, n->in[0], 2, 1), w = ex_unsqueeze(s, n, n->in[1], 2, 1);
    ex_called_like(s, w, n->in[1]);
    int y = ex_node(s, n, OP_CONV, (struct ex_attrs){ list, n_list }, (const int[]){ x, w, ex_in(n, 2) }, 3);
    if (s->failed)
        return;
    s->nodes[s->n_nodes - 1].name = n->name;           /* layers are called after their node */
    ret[0] = EX(OP_SQUEEZE, y, ex_ints(s, (const int64_t[]){ 2 }, 1));
}
