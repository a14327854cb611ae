/*
 * expand_einsum.c - an Einsum that is a matrix product, written as Transpose, Reshape and MatMul: then the layers find
 * their roles, and the product its fast kernel.
 *
 *     "bsd,df->bsf"  "bsd,dhk->bshk"     a linear: the constant operand becomes one matrix, folded at load
 *     "bqhd,bkhd->bhqk"  "bhqk,bkhd->bqhd"     products of two activations: one letter each is summed, of rows, of columns
 *
 * Every letter is of one of four kinds: in both operands and the output (a batch), in both but summed, or in one
 * operand and the output (rows and columns).  Whatever else an equation says (diagonals, sums over one operand alone,
 * three operands, outer products) stays an Einsum.
 */
#include "core/graph/expand.h"
#include "core/graph/window.h"

#include <string.h>

struct letters { int n, label[EINSUM_LABELS]; };

struct product {
    struct einsum es;
    int left, right;                   /* operands; rows are the left one's */
    bool weight;                       /* the right one is a constant matrix, whatever shape it is given in */
    struct letters batch, rows, summed, columns;
};

enum { OUT = 2 };

/* The axis of a letter in a term, or -1. */
static int axis_of(const struct product *p, int term, int label)
{
    for (int d = 0; d < p->es.rank[term]; d++)
        if (p->es.label[term][d] == label)
            return d;
    return -1;
}

static int64_t dim_of(const struct expansion *s, const struct node *n, const struct product *p, int operand, int label)
{
    return ex_fact(s, n->in[operand])->shape.dim[axis_of(p, operand, label)];
}

static bool has_diagonal(const struct einsum *es)
{
    for (int term = 0; term <= OUT; term++)
        for (int d = 1; d < es->rank[term]; d++)
            for (int k = 0; k < d; k++)
                if (es->label[term][d] == es->label[term][k])
                    return true;
    return false;
}

static void add(struct letters *l, int label) { l->label[l->n++] = label; }

/* In the order of the output; summed letters in that of the left operand.  False: a letter is of no kind. */
static bool sort_letters(const struct expansion *s, const struct node *n, struct product *p)
{
    for (int d = 0; d < p->es.rank[OUT]; d++) {
        int label = p->es.label[OUT][d];
        bool left = axis_of(p, p->left, label) >= 0, right = axis_of(p, p->right, label) >= 0;
        add(left && right ? &p->batch : left ? &p->rows : &p->columns, label);
        if (!left && !right)
            return false;
    }
    for (int d = 0; d < p->es.rank[p->left]; d++) {
        int label = p->es.label[p->left][d];
        if (axis_of(p, OUT, label) >= 0)
            continue;
        if (axis_of(p, p->right, label) < 0)
            return false;
        int64_t a = dim_of(s, n, p, p->left, label), b = dim_of(s, n, p, p->right, label);
        if (a != b && (a == 1 || b == 1))
            return false;              /* broadcast, which a matrix product does not along what it sums */
        add(&p->summed, label);
    }
    for (int d = 0; d < p->es.rank[p->right]; d++)
        if (axis_of(p, OUT, p->es.label[p->right][d]) < 0 && axis_of(p, p->left, p->es.label[p->right][d]) < 0)
            return false;
    return true;
}

/* The constant is on the right; of two activations the left one is whose own letter comes first in the output. */
static void choose_sides(const struct expansion *s, const struct node *n, struct product *p)
{
    p->weight = ex_fact(s, n->in[0])->known != ex_fact(s, n->in[1])->known;
    p->left = p->weight && ex_fact(s, n->in[0])->known;
    for (int d = 0; !p->weight && d < p->es.rank[OUT]; d++) {
        bool first = axis_of(p, 0, p->es.label[OUT][d]) >= 0, second = axis_of(p, 1, p->es.label[OUT][d]) >= 0;
        if (first != second) {
            p->left = second;
            break;
        }
    }
    p->right = !p->left;
}

static bool is_real(enum dtype t) { return t == DT_F32 || t == DT_F64 || t == DT_F16 || t == DT_BF16; }

static bool find_product(const struct expansion *s, const struct node *n, struct product *p)
{
    int ranks[EINSUM_OPERANDS];
    *p = (struct product){ 0 };
    if (n->n_in != 2 || n->in[0] < 0 || n->in[1] < 0 || !is_real(ex_type(s, n->in[0])) || ex_type(s, n->in[0]) != ex_type(s, n->in[1]))
        return false;
    for (int k = 0; k < 2; k++)
        if ((ranks[k] = ex_fact(s, n->in[k])->shape.rank) < 1)
            return false;
    if (einsum_parse(node_str(n, "equation", ""), 2, ranks, &p->es) || has_diagonal(&p->es))
        return false;
    choose_sides(s, n, p);
    if (!sort_letters(s, n, p) || (ex_fact(s, n->in[0])->known && ex_fact(s, n->in[1])->known))
        return false;
    if (p->weight)
        return !p->batch.n && p->rows.n && p->summed.n && p->columns.n && shape_known(&ex_fact(s, n->in[p->right])->shape);
    return p->rows.n == 1 && p->summed.n == 1 && p->columns.n == 1;
}

bool einsum_is_product(const struct expansion *s, const struct node *n)
{
    struct product p;
    return find_product(s, n, &p);
}

/* ---- writing ---- */

static void append(struct letters *to, const struct letters *more)
{
    for (int i = 0; i < more->n; i++)
        add(to, more->label[i]);
}

static struct letters joined(const struct letters *a, const struct letters *b, const struct letters *c)
{
    struct letters all = { 0 };
    append(&all, a);
    append(&all, b);
    append(&all, c);
    return all;
}

/* The value with its axes, which are `from`, in the order of `to`. */
static int permuted(struct expansion *s, const struct node *n, int value, const int *from, const struct letters *to)
{
    int64_t perm[EINSUM_LABELS] = { 0 };
    bool same = true;
    for (int i = 0; i < to->n; i++) {
        for (int k = 0; k < to->n; k++)
            perm[i] = from[k] == to->label[i] ? k : perm[i];
        same &= perm[i] == i;
    }
    return same ? value : ex_permute(s, n, value, perm, to->n);
}

/* The right operand's lengths of these letters. */
static int64_t lengths(const struct expansion *s, const struct node *n, const struct product *p, const struct letters *l, int64_t *ret)
{
    int64_t all = 1;
    for (int i = 0; i < l->n; i++)
        all *= ret[i] = dim_of(s, n, p, p->right, l->label[i]);
    return all;
}

/* [rows..., summed] x [summed, columns]: what are several letters is one axis around the product. */
static int linear(struct expansion *s, const struct node *n, const struct product *p, int x, int w)
{
    int64_t dims[TENSOR_MAX_RANK] = { 0 }, own[TENSOR_MAX_RANK];       /* 0: as it is */
    int64_t k = lengths(s, n, p, &p->summed, own), count = lengths(s, n, p, &p->columns, own);
    if (p->summed.n > 1) {
        dims[p->rows.n] = k;
        x = ex_reshape(s, n, x, dims, p->rows.n + 1);
    }
    if (p->summed.n + p->columns.n > 2)
        w = ex_reshape(s, n, w, (const int64_t[]){ k, count }, 2);
    ex_called_like(s, w, n->in[p->right]);
    int y = EX(OP_MATMUL, x, w);
    if (!s->failed)
        s->nodes[s->n_nodes - 1].name = n->name;       /* layers are called after their node */
    if (p->columns.n > 1) {
        memcpy(dims + p->rows.n, own, (size_t)p->columns.n * sizeof *own);
        y = ex_reshape(s, n, y, dims, p->rows.n + p->columns.n);
    }
    return y;
}

void expand_einsum(struct expansion *s, const struct node *n, int *ret)
{
    struct product p;
    if (!find_product(s, n, &p))
        return ex_fail(s, n, "its equation is not a matrix product");
    const struct letters left = joined(&p.batch, &p.rows, &p.summed), right = joined(&p.batch, &p.summed, &p.columns);
    const struct letters product = joined(&p.batch, &p.rows, &p.columns);
    struct letters out = { .n = p.es.rank[OUT] };
    int a = permuted(s, n, n->in[p.left], p.es.label[p.left], &left);
    int b = permuted(s, n, n->in[p.right], p.es.label[p.right], &right), y;
    if (p.weight) {
        y = linear(s, n, &p, a, b);
    } else {
        y = EX(OP_MATMUL, a, b);
        if (!s->failed)
            s->nodes[s->n_nodes - 1].name = n->name;
    }
    memcpy(out.label, p.es.label[OUT], sizeof p.es.label[OUT]);
    ret[0] = permuted(s, n, y, product.label, &out);
}
