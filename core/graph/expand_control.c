/*
 * expand_control.c - calls of functions, If and Loop: their bodies take their place.
 *
 * An If needs a condition, a Loop a number of iterations (or a condition at each), that is known when the model is
 * loaded; constants, and shapes that are numbers, have been folded when its turn comes.  What depends on the data is
 * refused: a graph of layers that may or may not run cannot be calibrated.
 */
#include "core/graph/body.h"

#include <string.h>

enum { ITERATIONS_MAX = 256 };

/* Something of a node that has no name of its own still has one. */
static const char *prefix_of(struct expansion *s, const struct node *n)
{
    const char *what = n->op == OP_CALL ? n->body->function->name : op_info[n->op].type;
    return n->name[0] ? n->name : arena_printf(s->g->mem, s->e, "%s_%d", what, s->g->n_values);
}

static int *room(struct expansion *s, size_t n)
{
    int *p = arena_array(s->g->mem, (uint64_t)n, sizeof *p, s->e);
    s->failed |= !p;
    return p;
}

/* The inputs that the operator has, without what its graphs read. */
static int declared(const struct node *n) { return n->n_in - (n->body ? n->body->n_outer : 0); }

/* ---- calls ---- */

void expand_call(struct expansion *s, const struct node *n, int *ret)
{
    struct body b;
    if (!body_of_function(s, n, &b))
        return;
    int *in = room(s, b.n_inputs), *out = room(s, b.n_outputs);
    for (size_t i = 0; !s->failed && i < b.n_inputs; i++)
        in[i] = ex_in(n, (int)i);
    if (!s->failed && body_run(s, &b, in, prefix_of(s, n), out))
        memcpy(ret, out, (size_t)n->n_out * sizeof *ret);
}

/* ---- If ---- */

/* Is the value one truth value that is known? */
static bool known_bool(const struct expansion *s, int value, bool *ret)
{
    const struct fact *f = ex_fact(s, value);
    uint64_t bytes;
    if (!f->known || !f->data || f->dtype != DT_BOOL || !tensor_size(f->dtype, &f->shape, "", NULL, &bytes, NULL) || bytes != 1)
        return false;
    *ret = *(const char *)f->data != 0;
    return true;
}

void expand_if(struct expansion *s, const struct node *n, int *ret)
{
    struct body b;
    bool chosen;
    if (!known_bool(s, ex_in(n, 0), &chosen))
        return ex_fail(s, n, "its condition depends on the data or on a length that is not a number, so that no branch can be chosen when the "
                             "model is loaded; export the model without control flow, or with that dimension fixed");
    if (!body_of_graph(s, n, node_attr(n, chosen ? "then_branch" : "else_branch")->g, &b))
        return;
    if (b.n_inputs || b.n_outputs < (size_t)n->n_out)
        return ex_fail(s, n, "a branch takes no inputs and gives each output of its If");
    int *out = room(s, b.n_outputs);
    if (!s->failed && body_run(s, &b, NULL, prefix_of(s, n), out))
        memcpy(ret, out, (size_t)n->n_out * sizeof *ret);
}

/* ---- Loop ---- */

struct loop {
    struct body b;
    const struct onnx_graph *graph;
    int *in, *out;                     /* of the body: the iteration's number, the condition, what is carried (and, out, what is collected) */
    int n_carried, n_scans, n_done;
    int *scans;                        /* [n_scans][ITERATIONS_MAX] */
    int64_t trips;
    bool go;
};

/* The most iterations it may make and whether it makes the first; false after a failure. */
static bool read_limits(struct expansion *s, const struct node *n, struct loop *l)
{
    int most = declared(n) > 0 ? ex_in(n, 0) : -1, condition = declared(n) > 1 ? ex_in(n, 1) : -1;
    const struct fact *f = ex_fact(s, most);
    uint64_t bytes;
    bool one = most >= 0 && f->known && f->data && f->dtype == DT_I64 && tensor_size(f->dtype, &f->shape, "", NULL, &bytes, NULL) && bytes == 8;
    l->trips = INT64_MAX;
    l->go = true;
    if (most >= 0 && !one)
        ex_fail(s, n, "its trip count depends on the data or on a length that is not a number; export the model without loops, or with that dimension fixed");
    else if (condition >= 0 && !known_bool(s, condition, &l->go))
        ex_fail(s, n, "its condition depends on the data; export the model without loops");
    if (one)
        memcpy(&l->trips, f->data, sizeof l->trips);
    return !s->failed;
}

static bool loop_begin(struct expansion *s, const struct node *n, struct loop *l)
{
    *l = (struct loop){ .graph = node_attr(n, "body")->g };
    l->n_carried = declared(n) > 2 ? declared(n) - 2 : 0;
    if (!read_limits(s, n, l) || !body_of_graph(s, n, l->graph, &l->b))
        return false;
    l->n_scans = (int)l->b.n_outputs - 1 - l->n_carried;
    if ((int)l->b.n_inputs != l->n_carried + 2 || l->n_scans < 0 || n->n_out > l->n_carried + l->n_scans) {
        ex_fail(s, n, "its body has another number of inputs or outputs than the Loop gives and takes");
        return false;
    }
    l->in = room(s, l->b.n_inputs);
    l->out = room(s, l->b.n_outputs);
    l->scans = room(s, (size_t)l->n_scans * ITERATIONS_MAX);
    for (int i = 0; !s->failed && i < l->n_carried; i++)
        l->in[2 + i] = ex_in(n, 2 + i);
    return !s->failed;
}

/* Numbers and conditions are scalars, unless the body says that they are lists of one. */
static struct shape one(const struct loop *l, int input)
{
    return l->graph->inputs[input].shape.rank == 1 ? (struct shape){ .rank = 1, .dim = { 1 } } : (struct shape){ 0 };
}

static void iterate(struct expansion *s, const struct node *n, struct loop *l, const char *prefix)
{
    int64_t number = l->n_done;
    if (l->n_done == ITERATIONS_MAX)
        return ex_fail(s, n, "it runs more than 256 times, too often to be written out; export the model without loops");
    l->in[0] = ex_const(s, DT_I64, one(l, 0), &number);
    l->in[1] = ex_const(s, DT_BOOL, one(l, 1), &l->go);
    if (!body_run(s, &l->b, l->in, arena_printf(s->g->mem, s->e, "%s/%d", prefix, l->n_done), l->out))
        return;
    for (int i = 0; i < l->n_scans && !s->failed; i++) {
        int row = l->out[1 + l->n_carried + i];
        if (row < 0)
            return ex_fail(s, n, "what it collects is absent: its body gives on an input that the Loop does not get");
        l->scans[i * ITERATIONS_MAX + l->n_done] = ex_unsqueeze(s, n, row, 0, 1);
    }
    if (!s->failed && !known_bool(s, l->out[0], &l->go))
        return ex_fail(s, n, "its condition after an iteration depends on the data; export the model without loops");
    memcpy(l->in + 2, l->out + 1, (size_t)l->n_carried * sizeof *l->in);
    l->n_done++;
}

void expand_loop(struct expansion *s, const struct node *n, int *ret)
{
    struct loop l;
    const char *prefix = prefix_of(s, n);
    if (!loop_begin(s, n, &l))
        return;
    while (!s->failed && l.go && l.n_done < l.trips)
        iterate(s, n, &l, prefix);
    for (int i = 0; i < l.n_carried && i < n->n_out; i++)
        ret[i] = l.in[2 + i];
    for (int i = 0; l.n_carried + i < n->n_out && !s->failed; i++) {
        if (!l.n_done)
            return ex_fail(s, n, "it makes no iteration, so that what it collects has no shape; export the model without it");
        ret[l.n_carried + i] = ex_concat(s, n, l.scans + i * ITERATIONS_MAX, l.n_done, 0);
    }
}
