/* absorb_path.c - from a linear's input back to the linear that makes it, and which channel comes from which. */
#include "core/sweep/absorb.h"

#include <string.h>

/* ---- by structure ---- */

/* Moves values and leaves them as they are; the first input holds them. */
static bool is_layout(enum op op)
{
    switch (op) {
    case OP_IDENTITY: case OP_RESHAPE: case OP_FLATTEN: case OP_SQUEEZE: case OP_UNSQUEEZE: case OP_TRANSPOSE: case OP_SPLIT:
    case OP_SLICE: case OP_GATHER: case OP_EXPAND: case OP_TILE:
        return true;
    default:
        return false;
    }
}

/* Do only `reader`, Shape and layout operators (which absorb_map() looks at) read the value? */
static bool only_moved(const struct graph *g, int value, int reader)
{
    const struct value *v = &g->values[value];
    for (int i = 0; i < v->n_consumers; i++) {
        enum op op = g->nodes[v->consumers[i]].op;
        if (v->consumers[i] != reader && op != OP_SHAPE && !is_layout(op))
            return false;
    }
    return !v->is_output && v->dtype == DT_F32;
}

/* A constant that several nodes read can be scaled if it is 0. */
static bool may_scale(const struct graph *g, int value)
{
    const struct value *v = &g->values[value];
    const float *x = v->data;
    bool zero = true;
    for (int64_t i = 0; i < shape_elements(&v->shape) && v->n_consumers > 1; i++)
        zero &= x[i] == 0;
    return zero && !v->is_output;
}

/* The quantized linear whose output, bias included, the value is; -1: none that can change. */
static int linear_giving(const struct graph *g, const struct sweep *s, int value)
{
    for (int i = 0; i < s->n_layers; i++) {
        const struct layer *l = s->layers[i].l;
        if (l->output == value && l->kind == LAYER_LINEAR && s->layers[i].quantize)
            return !l->shared_weight && !g->values[l->weight].is_output && (l->bias < 0 || may_scale(g, l->bias)) ? i : -1;
    }
    return -1;
}

static bool trace(const struct sweep_task *t, const struct sweep *s, int value, int reader, struct absorb_path *p);

static bool trace_step(const struct sweep_task *t, const struct sweep *s, int node, int from, int to, struct absorb_path *p)
{
    int before = p->n;
    if (p->n == ABSORB_STEPS || from < 0)
        return false;
    p->steps[p->n++] = (struct absorb_step){ node, from, to };
    if (trace(t, s, from, node, p))
        return true;
    p->n = before;
    return false;
}

/* The second operand of p.v. */
static int values_of(const struct sweep_task *t, int node)
{
    for (int i = 0; i < t->roles->n_layers; i++)
        if (t->roles->layers[i].node == node && t->roles->layers[i].kind == LAYER_PV)
            return t->roles->layers[i].other;
    return -1;
}

static bool trace(const struct sweep_task *t, const struct sweep *s, int value, int reader, struct absorb_path *p)
{
    const struct graph *g = t->g;
    int node = g->values[value].producer;
    if (reader >= 0 && !only_moved(g, value, reader))
        return false;
    if (reader >= 0 && (p->layer = linear_giving(g, s, value)) >= 0)
        return true;
    if (node < 0)
        return false;
    const struct node *n = &g->nodes[node];
    if (is_layout(n->op) || n->op == OP_RELU)
        return trace_step(t, s, node, n->in[0], value, p);
    if (n->op == OP_MATMUL)
        return trace_step(t, s, node, values_of(t, node), value, p);
    return n->op == OP_MUL && n->in[0] != n->in[1]
        && (trace_step(t, s, node, n->in[1], value, p) || trace_step(t, s, node, n->in[0], value, p));
}

bool absorb_trace(const struct sweep_task *t, const struct sweep *s, int site, struct absorb_path *ret)
{
    *ret = (struct absorb_path){ .site = site, .layer = -1 };
    return sweep_is_alone(t, s, site) && trace(t, s, s->sites[site].value, -1, ret);
}

/* ---- by number ---- */

struct numbering {
    const struct graph *g;
    struct frame *f;
    struct arena *mem;
    size_t n;                      /* channels of the maker */
    bool *seen;                    /* [n] */
    struct err *e;
};

static const struct shape *shape_of(const struct numbering *m, int value) { return &m->f->plan->facts.shape[value]; }

static bool new_tensor(const struct numbering *m, int value, struct tensor *ret)
{
    *ret = (struct tensor){ DT_F32, *shape_of(m, value), NULL };
    ret->data = arena_array(m->mem, (uint64_t)shape_elements(&ret->shape), sizeof(float), m->e);
    return ret->data != NULL;
}

/* p.v gives numbers as v has them, if all of v's rows have the same. */
static void through_product(const struct tensor *v, struct tensor *out, bool *fits)
{
    int rank = v->shape.rank;
    if (rank < 2 || out->shape.rank != rank || v->shape.dim[rank - 1] != out->shape.dim[rank - 1]
        || shape_count(&v->shape, 0, rank - 2) != shape_count(&out->shape, 0, rank - 2)) {
        *fits = false;
        return;
    }
    size_t width = (size_t)v->shape.dim[rank - 1], from_rows = (size_t)v->shape.dim[rank - 2], to_rows = (size_t)out->shape.dim[rank - 2];
    size_t stacks = (size_t)shape_count(&v->shape, 0, rank - 2);
    const float *from = v->data;
    float *to = out->data;
    for (size_t s = 0; s < stacks && *fits; s++, from += from_rows * width)
        for (size_t r = 0; r < from_rows || r < to_rows; r++) {
            *fits &= r >= from_rows || memcmp(from, from + r * width, width * sizeof *from) == 0;
            if (r < to_rows)
                memcpy(to + (s * to_rows + r) * width, from, width * sizeof *to);
        }
}

/* All outputs of a layout operator on `in`, into outs [n->n_out]. */
static bool through_layout(const struct numbering *m, int node, const struct tensor *in, struct tensor *outs, bool *fits)
{
    const struct node *n = &m->g->nodes[node];
    struct edit edit = { 0, *in, NULL };
    for (int i = 1; i < n->n_in; i++)
        *fits &= n->in[i] < 0 || m->f->plan->facts.known[n->in[i]];
    for (int i = 0; i < n->n_out && *fits; i++)
        if (n->out[i] >= 0 && !new_tensor(m, n->out[i], &outs[i]))
            return false;
    return !*fits || frame_float_step(m->f, node, &edit, outs, m->e);
}

/* Does the tensor hold a number that was seen? */
static bool holds_seen(const struct numbering *m, const struct tensor *t)
{
    const float *x = t->data;
    for (int64_t i = 0; x && i < shape_elements(&t->shape); i++)
        if (m->seen[(size_t)x[i]])
            return true;
    return false;
}

/* Nothing else that reads the step's source, and no other output of the step, may have channels of the step's own. */
static bool check_others(const struct numbering *m, const struct absorb_step *step, const struct tensor *in, const struct tensor *own,
                         bool *fits)
{
    const struct value *v = &m->g->values[step->from];
    const float *x = own->data;
    memset(m->seen, 0, m->n * sizeof *m->seen);
    for (int64_t i = 0; x && i < shape_elements(&own->shape); i++)
        m->seen[(size_t)x[i]] = true;
    for (int i = 0; i < v->n_consumers && *fits; i++) {
        const struct node *n = &m->g->nodes[v->consumers[i]];
        struct tensor outs[NODE_MAX_ARITY] = { 0 };
        bool same = v->consumers[i] == step->node;
        if (n->op == OP_SHAPE || (same && n->op != OP_SPLIT))
            continue;
        if (!through_layout(m, v->consumers[i], in, outs, fits))
            return false;
        for (int o = 0; o < n->n_out && *fits; o++)
            *fits &= n->out[o] == step->to || !holds_seen(m, &outs[o]);
    }
    return true;
}

static bool through_step(const struct numbering *m, const struct absorb_step *step, const struct tensor *in, struct tensor *ret, bool *fits)
{
    const struct node *n = &m->g->nodes[step->node];
    struct tensor outs[NODE_MAX_ARITY] = { 0 };
    if (is_layout(n->op)) {
        if (!through_layout(m, step->node, in, outs, fits))
            return false;
        for (int i = 0; i < n->n_out; i++)
            if (n->out[i] == step->to)
                *ret = outs[i];
    } else if (n->op == OP_MATMUL) {
        if (!new_tensor(m, step->to, ret))
            return false;
        through_product(in, ret, fits);
    } else {
        *ret = *in;                /* Relu; Mul that is not broadcast */
        *fits &= shape_equal(shape_of(m, step->from), shape_of(m, step->to));
    }
    return !*fits || check_others(m, step, in, ret, fits);
}

/* The site's channels from its tensor of numbers, the same in all rows. */
static bool read_map(const struct numbering *m, const struct tensor *t, struct absorb_path *io, struct arena *mem, bool *fits)
{
    size_t channels = (size_t)t->shape.dim[t->shape.rank - 1], rows = (size_t)shape_elements(&t->shape) / (channels ? channels : 1);
    const float *x = t->data;
    io->map = arena_array(mem, channels, sizeof *io->map, m->e);
    *fits &= rows > 0;
    for (size_t r = 1; r < rows && *fits; r++)
        *fits = memcmp(x, x + r * channels, channels * sizeof *x) == 0;
    for (size_t c = 0; io->map && c < channels && *fits; c++)
        io->map[c] = (int)x[c];
    return io->map != NULL;
}

static bool map_all(struct numbering *m, const struct sweep *s, struct arena *mem, struct absorb_path *io, bool *fits)
{
    int first = s->layers[io->layer].l->output;
    struct tensor now, next = { 0 };
    m->seen = arena_alloc(m->mem, m->n, m->e);
    if (!m->seen || !new_tensor(m, first, &now))
        return false;
    for (int64_t i = 0; i < shape_elements(&now.shape); i++)
        ((float *)now.data)[i] = (float)((size_t)i % m->n);
    for (int i = io->n - 1; i >= 0 && *fits; i--, now = next)
        if (!through_step(m, &io->steps[i], &now, &next, fits))
            return false;
    return !*fits || read_map(m, &now, io, mem, fits);
}

bool absorb_map(const struct graph *g, const struct sweep *s, struct frame *f, struct arena *mem, struct absorb_path *io, bool *ret_fits,
                struct err *e)
{
    struct numbering m = { g, f, arena_new(UINT64_MAX / 2), (size_t)s->layers[io->layer].l->n, NULL, e };
    *ret_fits = m.n < (1 << 24);       /* numbers are floats */
    bool ok = m.mem ? map_all(&m, s, mem, io, ret_fits) : err_set(e, ERR_MEMORY, s->layers[io->layer].l->name, "no memory to trace channels");
    arena_free(m.mem);
    return ok;
}
