#include "core/exec/group.h"

#include "core/exec/fused.h"
#include "core/exec/op_internal.h"
#include "core/kernel/kernel.h"

#include <string.h>

/* Products of so many rows run at full speed (bench/README.md); their widest result is then about a MiB. */
enum { TILE_ROWS = 384, LEAST_MATRIX = 256 };

/* ---- which nodes fit together ---- */

struct finder {
    const struct plan *p;
    struct group g;
    int *made_in;                /* [n_values]: 1 + the first step of the group that makes it */
};

static const struct shape *shape_of(const struct plan *p, int v) { return &p->facts.shape[v]; }

static struct shape lead_of(const struct shape *s, int keep)
{
    struct shape lead = *s;
    lead.rank = s->rank > keep ? s->rank - keep : 0;
    return lead;
}

static bool made_here(const struct finder *f, int v) { return f->made_in[f->p->root[v]] == f->g.first + 1; }

/* A value of the group's own leading dimensions. */
static bool is_sliced(const struct finder *f, int v)
{
    const struct shape *s = shape_of(f->p, v);
    struct shape lead = lead_of(s, f->g.keep);
    return s->rank == f->g.lead.rank + f->g.keep && shape_equal(&lead, &f->g.lead);
}

/* A value that every tile reads whole. */
static bool is_whole(const struct finder *f, int v)
{
    const struct shape *s = shape_of(f->p, v);
    return !made_here(f, v) && s->rank <= f->g.lead.rank + f->g.keep && (s->rank <= f->g.keep || shape_count(s, 0, s->rank - f->g.keep) == 1);
}

/* A value that is broadcast to matrices: a mask. */
static bool is_broadcast(const struct finder *f, int v)
{
    const struct shape *s = shape_of(f->p, v);
    int shift = f->g.lead.rank + f->g.keep - s->rank;
    if (f->g.keep != 2 || made_here(f, v) || shift < 0)
        return false;
    for (int d = 0; d < s->rank - f->g.keep; d++)
        if (s->dim[d] != 1 && s->dim[d] != f->g.lead.dim[d + shift])
            return false;
    return true;
}

static bool operands_fit(const struct finder *f, const struct node *n)
{
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] >= 0 && !is_sliced(f, n->in[i]) && !is_whole(f, n->in[i]) && !is_broadcast(f, n->in[i]))
            return false;
    return true;
}

/* Does the reduction go over the last axis and nothing else, and keep it? */
static bool over_last(const struct plan *p, const struct node *n)
{
    int rank = shape_of(p, n->in[0])->rank;
    size_t count;
    const int64_t *axes = node_ints(n, "axes", &count);
    if (!node_int(n, "keepdims", 1))
        return false;
    if (n->n_in < 2 || n->in[1] < 0)
        return count == 1 && op_axis(axes[0], rank) == rank - 1;
    struct tensor t = { p->g->values[n->in[1]].dtype, p->facts.shape[n->in[1]], (void *)(uintptr_t)p->facts.data[n->in[1]] };
    return p->facts.known[n->in[1]] && shape_elements(&t.shape) == 1 && op_axis(op_int(&t, 0), rank) == rank - 1;
}

static bool is_last_axis(const struct plan *p, const struct node *n, int64_t absent)
{
    int rank = shape_of(p, n->in[0])->rank;
    return rank > 0 && op_axis(node_int(n, "axis", absent), rank) == rank - 1;
}

static bool product_fits(const struct finder *f, const struct node *n)
{
    if (!is_sliced(f, n->in[0]))
        return false;
    if (f->g.keep == 1)
        return shape_of(f->p, n->in[1])->rank == 2 && !made_here(f, n->in[1]);
    return is_sliced(f, n->in[1]) && operands_fit(f, n);
}

static bool op_fits(const struct finder *f, const struct node *n)
{
    switch (n->op) {
    case OP_ADD: case OP_SUB: case OP_MUL: case OP_DIV: case OP_POW: case OP_MIN: case OP_MAX: case OP_WHERE: case OP_NEG: case OP_ABS:
    case OP_SQRT: case OP_RECIPROCAL: case OP_EXP: case OP_ERF: case OP_TANH: case OP_SIGMOID: case OP_RELU: case OP_GELU: case OP_CLIP:
        return operands_fit(f, n);
    case OP_SOFTMAX:
        return is_sliced(f, n->in[0]) && is_last_axis(f->p, n, -1);
    case OP_LAYERNORM: case OP_RMSNORM:
        return f->g.keep == 1 && is_sliced(f, n->in[0]) && is_last_axis(f->p, n, -1) && operands_fit(f, n);
    case OP_REDUCEMEAN: case OP_REDUCESUM:
        return f->g.keep == 1 && is_sliced(f, n->in[0]) && over_last(f->p, n) && !(n->n_in > 1 && n->in[1] >= 0 && made_here(f, n->in[1]));
    case OP_MATMUL:
        return product_fits(f, n);
    default:
        return false;
    }
}

static bool node_fits(const struct finder *f, int node)
{
    const struct plan *p = f->p;
    const struct node *n = &p->g->nodes[node];
    if (p->how->qop[node].kind != QOP_NONE || p->how->edit[node] || n->n_out != 1 || !is_sliced(f, n->out[0])
        || dtype_bits(p->g->values[n->out[0]].dtype) % 8 != 0)
        return false;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] >= 0 && (dtype_bits(p->g->values[n->in[i]].dtype) % 8 != 0 || p->g->values[n->in[i]].narrow))
            return false;
    return op_fits(f, n);
}

/* The kind of group that a node may begin. */
static void begin(struct finder *f, int step)
{
    const struct node *n = &f->p->g->nodes[f->p->steps[step]];
    const struct shape *s = shape_of(f->p, n->out[0]);
    bool matrices = n->op == OP_MATMUL && s->rank > 2 && shape_of(f->p, n->in[1])->rank == s->rank;
    f->g = (struct group){ .first = step, .keep = matrices ? 2 : 1 };
    f->g.lead = lead_of(s, f->g.keep);
    f->g.units = shape_elements(&f->g.lead);
    int64_t tiles = (f->g.units + TILE_ROWS / 2) / TILE_ROWS;      /* even ones: each product packs its matrix again, for a few rows too */
    tiles = tiles ? tiles : 1;
    f->g.tile = matrices ? 1 : (f->g.units + tiles - 1) / tiles;
}

/* Extends the group as far as nodes fit; views among them only pass pointers on.  The nodes that compute something. */
static int extend(struct finder *f)
{
    const struct plan *p = f->p;
    int computing = 0, last = f->g.first;
    for (int i = f->g.first; i < p->n_steps; i++) {
        const struct node *n = &p->g->nodes[p->steps[i]];
        if (op_is_view(n->op))
            continue;
        if (!node_fits(f, p->steps[i]))
            break;
        f->made_in[n->out[0]] = f->g.first + 1;
        computing++;
        last = i;
    }
    f->g.n = last + 1 - f->g.first;
    return computing;
}

/* Is it worth it?  Small matrices would cost more in calls than they save. */
static bool is_useful(const struct finder *f, int computing)
{
    const struct plan *p = f->p;
    const struct node *n = &p->g->nodes[p->steps[f->g.first]];
    const struct shape *s = shape_of(p, n->out[0]);
    return computing > 1 && f->g.units > 0
        && (f->g.keep == 1 ? s->rank > 1 : shape_count(s, s->rank - 2, s->rank) >= LEAST_MATRIX);
}

/* Values that nothing behind the group reads. */
static void mark_inner(struct plan *p, const struct group *g)
{
    int end = p->steps[g->first + g->n - 1];
    for (int i = g->first; i < g->first + g->n; i++) {
        const struct node *n = &p->g->nodes[p->steps[i]];
        if (!op_is_view(n->op))
            p->inner[n->out[0]] = p->last_use[n->out[0]] <= end;
    }
}

bool groups_find(struct plan *p, struct arena *mem, struct err *e)
{
    struct finder f = { .p = p, .made_in = arena_array(mem, (uint64_t)p->g->n_values, sizeof *f.made_in, e) };
    p->groups = arena_array(mem, (uint64_t)p->n_steps, sizeof *p->groups, e);
    p->group_at = arena_array(mem, (uint64_t)p->n_steps, sizeof *p->group_at, e);
    p->inner = arena_array(mem, (uint64_t)p->g->n_values, sizeof *p->inner, e);
    if (!f.made_in || !p->groups || !p->group_at || !p->inner)
        return false;
    for (int i = 0; i < p->n_steps; i++) {
        const struct node *n = &p->g->nodes[p->steps[i]];
        if (op_is_view(n->op) || n->n_out != 1)
            continue;
        begin(&f, i);
        if (!is_useful(&f, extend(&f)))
            continue;
        p->groups[p->n_groups++] = f.g;
        mark_inner(p, &f.g);
        for (int k = i; k < i + f.g.n; k++)
            p->group_at[k] = p->n_groups;
        i += f.g.n - 1;
    }
    return fused_find(p, mem, e);
}

uint64_t group_bytes(const struct plan *p, const struct group *g, int value)
{
    const struct shape *s = shape_of(p, value);
    int64_t units = p->inner[value] && g->tile < g->units ? g->tile : g->units;
    return (uint64_t)(units * shape_count(s, g->lead.rank, s->rank)) * (uint64_t)dtype_bits(p->g->values[value].dtype) / 8;
}

/* ---- running ---- */

struct tile { struct frame *f; const struct group *g; int64_t first, n; };

/* Where a matrix of a broadcast operand stands, in matrices. */
static int64_t broadcast_index(const struct group *g, const struct shape *s, int64_t unit)
{
    int shift = g->lead.rank + g->keep - s->rank;
    int64_t at = 0, stride = 1;
    for (int d = g->lead.rank - 1; d >= shift; d--) {
        int64_t own = s->dim[d - shift];
        at += own > 1 ? unit % g->lead.dim[d] * stride : 0;
        stride *= own;
        unit /= g->lead.dim[d];
    }
    return at;
}

/* The part of a value that the tile reads or writes. */
static struct tensor part_of(const struct tile *t, int v)
{
    const struct plan *p = t->f->plan;
    struct tensor part = t->f->t[v];
    int lead = part.shape.rank - t->g->keep;
    if (lead <= 0 || shape_count(&part.shape, 0, lead) == 1)
        return part;
    struct shape own = lead_of(&part.shape, t->g->keep);
    bool sliced = shape_equal(&own, &t->g->lead);
    int64_t at = p->inner[p->root[v]] ? 0 : sliced ? t->first : broadcast_index(t->g, &part.shape, t->first);
    int64_t unit = shape_count(&part.shape, lead, part.shape.rank);
    for (int d = 0; d < lead; d++)
        part.shape.dim[d] = 1;
    part.shape.dim[lead - 1] = t->n;
    part.data = (char *)part.data + at * unit * (dtype_bits(part.dtype) / 8);
    return part;
}

/* The only reader of a value made in the group, if it is the next node that computes: an addition.  -1: not so. */
static int next_addition(const struct tile *t, int step, int *ret_other)
{
    const struct plan *p = t->f->plan;
    int v = p->g->nodes[p->steps[step]].out[0], next = step + 1;
    if (next >= t->g->first + t->g->n || !p->inner[v] || p->g->values[v].n_consumers != 1)
        return -1;
    const struct node *n = &p->g->nodes[p->steps[next]];
    if (n->op != OP_ADD || n->in[0] == n->in[1] || (n->in[0] != v && n->in[1] != v))
        return -1;
    *ret_other = n->in[n->in[0] == v];
    return p->g->values[*ret_other].dtype == DT_F32 ? next : -1;
}

/* A product with a constant matrix that a bias, and perhaps a residual, is added to: onto both.  The step behind, or 0: run it plainly. */
static int run_linear(const struct tile *t, int step)
{
    const struct plan *p = t->f->plan;
    const struct node *n = &p->g->nodes[p->steps[step]];
    int bias, residual = -1, add = next_addition(t, step, &bias);
    if (t->g->keep != 1 || n->op != OP_MATMUL || p->g->values[n->out[0]].dtype != DT_F32 || add < 0)
        return 0;
    struct tensor x = part_of(t, n->in[0]), w = t->f->t[n->in[1]], b = part_of(t, bias);
    size_t k = (size_t)w.shape.dim[0], cols = (size_t)w.shape.dim[1];
    if (!p->g->values[bias].is_const || b.shape.rank == 0 || b.shape.dim[b.shape.rank - 1] != (int64_t)cols
        || shape_elements(&b.shape) != (int64_t)cols)
        return 0;
    int last = add, more = next_addition(t, add, &residual);
    if (more >= 0 && shape_equal(&t->f->t[residual].shape, &t->f->t[n->out[0]].shape))
        last = more;
    float *y = part_of(t, p->g->nodes[p->steps[last]].out[0]).data;
    size_t rows = (size_t)t->n;
    if (last != add)
        vec_add_row(rows, cols, part_of(t, residual).data, b.data, y);
    else
        for (size_t r = 0; r < rows; r++)
            memcpy(y + r * cols, b.data, cols * sizeof *y);
    gemm(false, false, rows, cols, k, x.data, k, w.data, cols, true, y, cols);
    return last + 1;
}

static bool run_node(const struct tile *t, const struct node *n, struct err *e)
{
    struct tensor room[NODE_MAX_ARITY], out = part_of(t, n->out[0]);
    const struct tensor *in[NODE_MAX_ARITY];
    for (int i = 0; i < n->n_in; i++) {
        in[i] = NULL;
        if (n->in[i] >= 0) {
            bool matrix = n->op == OP_MATMUL && t->g->keep == 1 && i == 1;
            room[i] = matrix ? t->f->t[n->in[i]] : part_of(t, n->in[i]);
            in[i] = &room[i];
        }
    }
    const struct op_impl *impl = &op_impl[n->op];
    return (impl->fast ? impl->fast : impl->ref)(&(struct op_args){ t->f->plan->g, n, in, &out, t->f->scratch }, e);
}

/* A pattern of several nodes: all of it at its last.  The step behind, or 0: the step is a node by itself. */
static int run_fused(const struct tile *t, int step)
{
    const struct plan *p = t->f->plan;
    const struct fused *fused = &p->fused[step];
    if (!fused_runs(fused))
        return fused->kind == FUSED_WITHIN ? step + 1 : 0;
    struct tensor x = part_of(t, fused->x), y = part_of(t, p->g->nodes[p->steps[step]].out[0]);
    struct tensor mask = fused->mask >= 0 ? part_of(t, fused->mask) : (struct tensor){ 0 };
    size_t n = (size_t)y.shape.dim[y.shape.rank - 1];
    fused_run(fused, (size_t)shape_elements(&y.shape) / (n ? n : 1), n, x.data, fused->mask >= 0 ? &mask : NULL, y.data);
    return step + 1;
}

bool group_run(struct frame *f, const struct group *g, struct err *e)
{
    const struct plan *p = f->plan;
    for (struct tile t = { f, g, 0, 0 }; t.first < g->units; t.first += t.n) {
        t.n = g->units - t.first < g->tile ? g->units - t.first : g->tile;
        for (int i = g->first, next; i < g->first + g->n; i = next) {
            const struct node *n = &p->g->nodes[p->steps[i]];
            next = op_is_view(n->op) ? i + 1 : run_fused(&t, i);
            next = next ? next : run_linear(&t, i);
            if (next == 0 && !run_node(&t, n, e))
                return false;
            next = next ? next : i + 1;
        }
    }
    return true;
}
