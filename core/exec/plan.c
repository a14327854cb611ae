#include "core/exec/plan.h"

#include "core/exec/fused.h"
#include "core/exec/narrow.h"
#include "core/exec/op.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };
#define NOWHERE UINT64_MAX

/* What a node reads when it runs as the lowering says: at most n_in values. */
static int reads_of(const struct plan *p, int node, int *ret)
{
    const struct node *n = &p->g->nodes[node];
    const struct qop *q = &p->how->qop[node];
    int count = 0;
    if (q->kind != QOP_NONE) {
        ret[count++] = q->x;
        if (q->y >= 0)
            ret[count++] = q->y;
        return count;
    }
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] >= 0)
            ret[count++] = n->in[i];
    return count;
}

static bool runs(const struct plan *p, int node)
{
    const struct node *n = &p->g->nodes[node];
    if (p->how->skip[node])
        return false;
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] >= 0 && !p->facts.known[n->out[i]])
            return true;
    return false;
}

/* A view of a known or supplied value is just that value's bytes. */
static void find_roots(struct plan *p)
{
    for (int v = 0; v < p->g->n_values; v++)
        p->root[v] = v;
    for (int i = 0; i < p->n_steps; i++) {
        const struct node *n = &p->g->nodes[p->steps[i]];
        if (op_is_view(n->op))
            p->root[n->out[0]] = p->root[n->in[0]];
    }
}

static void find_last_uses(struct plan *p)
{
    int reads[NODE_MAX_ARITY];
    for (int v = 0; v < p->g->n_values; v++)
        p->last_use[v] = -1;
    for (int i = 0; i < p->n_steps; i++) {
        int n = reads_of(p, p->steps[i], reads);
        for (int j = 0; j < n; j++)
            p->last_use[p->root[reads[j]]] = p->steps[i];
    }
    for (int i = 0; i < p->g->n_outputs; i++)
        p->last_use[p->root[p->g->outputs[i]]] = p->g->n_nodes;
}

/* One stretch of frame memory: free, or taken by `value` until its last use. */
struct slot { uint64_t at, size; int value; };
struct layout { struct slot *slots; int n, room; uint64_t top; const int *until; /* [n_values]: last use, or the end of its group */ };

static bool slot_insert(struct layout *l, int at, struct slot s)
{
    if (l->n == l->room) {
        int room = l->room ? 2 * l->room : 64;
        struct slot *more = realloc(l->slots, (size_t)room * sizeof *more);
        if (!more)
            return false;
        l->slots = more;
        l->room = room;
    }
    memmove(l->slots + at + 1, l->slots + at, (size_t)(l->n - at) * sizeof s);
    l->slots[at] = s;
    l->n++;
    return true;
}

/* The smallest free gap that fits; slots are sorted by place and hold only taken ones. */
static bool slot_take(struct layout *l, int value, uint64_t size, uint64_t *ret_at)
{
    uint64_t end = 0, best_at = 0, best_gap = NOWHERE;
    int best = -1;
    for (int i = 0; i < l->n; i++) {
        uint64_t gap = l->slots[i].at - end;
        if (gap >= size && gap < best_gap) {
            best = i;
            best_at = end;
            best_gap = gap;
        }
        end = l->slots[i].at + l->slots[i].size;
    }
    if (best < 0) {
        best = l->n;
        best_at = end;
    }
    if (best_at + size > l->top)
        l->top = best_at + size;
    *ret_at = best_at;
    return slot_insert(l, best, (struct slot){ best_at, size, value });
}

static void slots_expire(struct layout *l, int node)
{
    int kept = 0;
    for (int i = 0; i < l->n; i++)
        if (l->until[l->slots[i].value] >= node)
            l->slots[kept++] = l->slots[i];
    l->n = kept;
}

static bool place_outputs(struct plan *p, struct layout *l, int node, const struct group *in, struct err *e)
{
    const struct node *n = &p->g->nodes[node];
    for (int i = 0; i < n->n_out; i++) {
        int v = n->out[i];
        uint64_t bytes;
        if (v < 0 || p->root[v] != v || p->facts.known[v] || p->offset[v] != NOWHERE)
            continue;
        if (!tensor_size(p->g->values[v].dtype, &p->facts.shape[v], p->g->values[v].name, NULL, &bytes, e))
            return false;
        bytes = in ? group_bytes(p, in, v) : bytes;
        bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN + ALIGN;
        if (!slot_take(l, v, bytes, &p->offset[v]))
            return err_set(e, ERR_MEMORY, p->g->values[v].name, "no memory for the plan");
    }
    return true;
}

/*
 * What a group reads from outside has to last until its last tile.  A tile's input of a product has to last for two nodes more:
 * the product may be computed onto the result of the additions behind it.  A pattern's input lasts until its last node.
 */
static void prolong(const struct plan *p, const struct group *g, int *until)
{
    int reads[NODE_MAX_ARITY], end = g->first + g->n - 1;
    for (int i = g->first; i <= end; i++) {
        int n = reads_of(p, p->steps[i], reads), product = i + 2 < end ? i + 2 : end;
        for (int j = 0; j < n; j++) {
            int root = p->root[reads[j]], least = p->steps[p->inner[root] ? product : end];
            if (until[root] < least && (!p->inner[root] || p->g->nodes[p->steps[i]].op == OP_MATMUL))
                until[root] = least;
        }
        if (fused_runs(&p->fused[i]) && until[p->root[p->fused[i].x]] < p->steps[i])
            until[p->root[p->fused[i].x]] = p->steps[i];
    }
}

/* What a group makes for others is placed before its tiles' values, which take turns in the same memory tile after tile. */
static bool place_results(struct plan *p, struct layout *l, const struct group *g, struct err *e)
{
    for (int i = g->first; i < g->first + g->n; i++) {
        const struct node *n = &p->g->nodes[p->steps[i]];
        if (!op_is_view(n->op) && !p->inner[n->out[0]] && !place_outputs(p, l, p->steps[i], g, e))
            return false;
    }
    return true;
}

static const struct group *group_of(const struct plan *p, int step)
{
    return p->group_at && p->group_at[step] ? &p->groups[p->group_at[step] - 1] : NULL;
}

static bool lay_out(struct plan *p, struct arena *mem, struct err *e)
{
    int *until = arena_array(mem, (uint64_t)p->g->n_values, sizeof *until, e);
    struct layout l = { .until = until };
    bool ok = until != NULL;
    for (int v = 0; v < p->g->n_values; v++)
        p->offset[v] = NOWHERE;
    if (ok)
        memcpy(until, p->last_use, (size_t)p->g->n_values * sizeof *until);
    for (int i = 0; ok && i < p->n_groups; i++)
        prolong(p, &p->groups[i], until);
    for (int i = 0; i < p->n_steps && ok; i++) {
        const struct group *in = group_of(p, i);
        slots_expire(&l, p->steps[i]);
        ok = (!in || in->first != i || place_results(p, &l, in, e)) && place_outputs(p, &l, p->steps[i], in, e);
    }
    p->frame_bytes = l.top;
    free(l.slots);
    return ok;
}

static void set_tensor(const struct plan *p, int v, struct tensor *ret)
{
    *ret = (struct tensor){ .dtype = p->g->values[v].dtype, .shape = p->facts.shape[v] };
}

static const struct tensor *input_tensor(const struct plan *p, int v, struct tensor *room)
{
    if (v < 0)
        return NULL;
    set_tensor(p, v, room);
    room->data = (void *)(uintptr_t)p->facts.data[v];
    return room;
}

/* Scratch of a node as an operator and as a quantized one: the sweep fills qop rows after planning. */
static uint64_t scratch_of(const struct plan *p, int node)
{
    const struct node *n = &p->g->nodes[node];
    struct tensor in_room[NODE_MAX_ARITY], out[NODE_MAX_ARITY];
    const struct tensor *in[NODE_MAX_ARITY] = { NULL };
    for (int i = 0; i < n->n_in; i++)
        in[i] = input_tensor(p, n->in[i], &in_room[i]);
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] >= 0)
            set_tensor(p, n->out[i], &out[i]);
    uint64_t bytes = 0;
    if (op_impl[n->op].scratch)
        bytes = op_impl[n->op].scratch(&(struct op_args){ p->g, n, in, out, NULL });
    if ((n->op == OP_MATMUL || n->op == OP_GEMM || n->op == OP_CONV) && in[0] && in[1]) {
        const struct qop *q = &p->how->qop[node];
        struct tensor x = *in[0], y = *in[1];
        if (q->kind != QOP_NONE)
            set_tensor(p, q->x, &x);
        if (q->kind == QOP_PRODUCT)
            set_tensor(p, q->y, &y);
        bool weight = q->kind == QOP_MATMUL || (q->kind == QOP_NONE && p->g->values[n->in[1]].is_const);
        uint64_t quantized = qop_scratch(n->op, weight, &x, &y, &out[0]) + qop_tile_bytes(q);
        if (p->how->may_float && n->op != OP_CONV)
            quantized += (uint64_t)shape_elements(&x.shape) * sizeof(float);
        uint64_t thin = p->how->low_rank && n->op != OP_CONV ? qop_low_rank_bytes(p->how->low_rank, &x, &out[0]) : 0;
        quantized = thin > quantized ? thin : quantized;
        bytes = quantized > bytes ? quantized : bytes;
    }
    return bytes;
}

struct plan *plan_new(const struct graph *g, const struct lowering *how, struct arena *mem,
                      const struct shape *shapes, struct err *e)
{
    struct plan *p = arena_alloc(mem, sizeof *p, e);
    if (!p)
        return NULL;
    p->g = g;
    p->how = how;
    p->inputs = arena_array(mem, (uint64_t)g->n_inputs, sizeof *p->inputs, e);
    p->steps = arena_array(mem, (uint64_t)g->n_nodes, sizeof *p->steps, e);
    p->root = arena_array(mem, (uint64_t)g->n_values, sizeof *p->root, e);
    p->last_use = arena_array(mem, (uint64_t)g->n_values, sizeof *p->last_use, e);
    p->offset = arena_array(mem, (uint64_t)g->n_values, sizeof *p->offset, e);
    if (!p->inputs || !p->steps || !p->root || !p->last_use || !p->offset
        || !graph_bind(g, mem, shapes, op_eval, &p->facts, e))
        return NULL;
    memcpy(p->inputs, shapes, (size_t)g->n_inputs * sizeof *shapes);
    for (int i = 0; i < g->n_nodes; i++)
        if (runs(p, i))
            p->steps[p->n_steps++] = i;
    find_roots(p);
    find_last_uses(p);
    if ((how->tiled && !groups_find(p, mem, e)) || !lay_out(p, mem, e))
        return NULL;
    for (int i = 0; i < p->n_steps; i++) {
        uint64_t bytes = scratch_of(p, p->steps[i]);
        p->scratch_bytes = bytes > p->scratch_bytes ? bytes : p->scratch_bytes;
    }
    return p;
}

bool plan_live_at(const struct plan *p, int value, int at)
{
    const struct value *v = &p->g->values[value];
    if (p->facts.known[value] || p->root[value] != value || p->last_use[value] < at)
        return false;
    return v->producer < at && (v->producer >= 0 || v->is_input);
}

/* ---- frames ---- */

bool frame_grow(char **mem, uint64_t *size, uint64_t want, struct err *e)
{
    if (want <= *size)
        return true;
    free(*mem);
    *size = 0;
    uint64_t rounded = (want + ALIGN - 1) / ALIGN * ALIGN;
    *mem = aligned_alloc(ALIGN, (size_t)rounded);
    if (!*mem)
        return err_set(e, ERR_MEMORY, "", "the system refused %llu bytes for one chunk of samples; free memory, or use a machine with more", (unsigned long long)rounded);
    memset(*mem, 0, (size_t)rounded);      /* never somebody else's bytes */
    *size = rounded;
    return true;
}

static bool grow_tensors(struct frame *f, int n, struct err *e)
{
    if (n <= f->t_size)
        return true;
    struct tensor *t = realloc(f->t, (size_t)n * sizeof *t);
    if (!t)
        return err_set(e, ERR_MEMORY, "", "no memory for a frame");
    f->t = t;
    f->t_size = n;
    return true;
}

bool frame_bind(struct frame *f, const struct plan *p, const struct lowering *how, struct err *e)
{
    if (!frame_grow(&f->mem, &f->mem_size, p->frame_bytes + ALIGN, e)
        || !frame_grow(&f->scratch, &f->scratch_size, p->scratch_bytes + ALIGN, e) || !grow_tensors(f, p->g->n_values, e))
        return false;
    f->plan = p;
    f->how = how;
    for (int v = 0; v < p->g->n_values; v++) {
        int root = p->facts.known[v] ? v : p->root[v];
        set_tensor(p, v, &f->t[v]);
        f->t[v].data = p->facts.known[root] ? (void *)(uintptr_t)p->facts.data[root]
                     : p->offset[root] != NOWHERE ? f->mem + p->offset[root] : NULL;
    }
    return true;
}

void frame_release(struct frame *f)
{
    free(f->t);
    free(f->mem);
    free(f->scratch);
    free(f->inputs);
    free(f->wide);
    *f = (struct frame){ 0 };
}

void frame_set(struct frame *f, int value, const void *data)
{
    for (int v = 0; v < f->plan->g->n_values; v++)
        if (f->plan->root[v] == value)     /* its views too: they may have been made before a cut */
            f->t[v].data = (void *)(uintptr_t)data;
}

static bool run_op(struct frame *f, const struct node *n, const struct edit *edit, struct tensor *out, struct err *e)
{
    const struct tensor *in[NODE_MAX_ARITY];
    bool moved;
    for (int i = 0; i < n->n_in; i++) {
        in[i] = lowering_edited(edit, i);
        if (!in[i] && n->in[i] >= 0)
            in[i] = &f->t[n->in[i]];
    }
    const struct op_impl *impl = &op_impl[n->op];
    struct op_args args = { f->plan->g, n, in, out, f->scratch };
    if (!narrow_move(f, impl, &args, &moved, e) || (!moved && !narrow_widen(f, n->in, n->n_in, edit, e)))
        return false;
    return moved || (impl->fast ? impl->fast : impl->ref)(&args, e);
}

bool frame_step(struct frame *f, int node, struct err *e)
{
    const struct node *n = &f->plan->g->nodes[node];
    const struct qop *q = &f->how->qop[node];
    struct tensor out[NODE_MAX_ARITY];
    if (op_is_view(n->op)) {
        char where[160];
        if (f->plan->g->values[n->in[0]].narrow)
            return err_set(e, ERR_MODEL_LIMIT, graph_where(f->plan->g, n, where, sizeof where),
                           "it reshapes a constant of more 16-bit floats than are converted at once; export the constant in its final shape");
        f->t[n->out[0]].data = f->t[n->in[0]].data;
        return true;
    }
    if (q->kind != QOP_NONE)
        return narrow_widen(f, (const int[]){ q->x, q->y }, 2, NULL, e)
            && qop_run(q, f->plan->g, n, &f->t[q->x], q->y >= 0 ? &f->t[q->y] : NULL, &f->t[n->out[0]], f->scratch, e);
    for (int i = 0; i < n->n_out; i++)
        out[i] = n->out[i] >= 0 ? f->t[n->out[i]] : (struct tensor){ 0 };
    return run_op(f, n, f->how->edit[node], out, e);
}

bool frame_run(struct frame *f, int from, int to, struct err *e)
{
    const struct plan *p = f->plan;
    for (int i = 0; i < p->n_steps; i++) {
        const struct group *g = group_of(p, i);
        if (p->steps[i] < from || p->steps[i] >= to)
            continue;
        if (!(g ? group_run(f, g, e) : frame_step(f, p->steps[i], e)))
            return false;
        i += g ? g->n - 1 : 0;
    }
    return true;
}

bool frame_float_step(struct frame *f, int node, const struct edit *edit, struct tensor *out, struct err *e)
{
    return run_op(f, &f->plan->g->nodes[node], edit, out, e);
}
