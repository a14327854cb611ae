/* op_matmul.c - MatMul (numpy's rules) and Gemm. */
#include "core/exec/op_internal.h"

#include "core/kernel/clones.h"
#include "core/kernel/kernel.h"

/*
 * A MatMul as a batch of [m,k] x [k,n]: batch dimensions are broadcast, a vector on the left is a
 * row and one on the right a column (the output lacks that dimension, which changes no byte).
 */
struct product {
    int64_t m, k, n;
    struct shape batch;
    walk_strides stride[2];                /* of each operand over the batch, in matrices */
};

static void split_matrix(const struct shape *s, bool left, int64_t *rows, int64_t *cols, struct shape *batch)
{
    *batch = *s;
    batch->rank = s->rank > 2 ? s->rank - 2 : 0;
    *rows = s->rank > 1 ? s->dim[s->rank - 2] : left ? 1 : s->dim[0];
    *cols = s->rank > 1 || left ? s->dim[s->rank - 1] : 1;
}

static struct product product_of(const struct op_args *a)
{
    struct product p = { 0 };
    struct shape x, y;
    int64_t k;
    split_matrix(&a->in[0]->shape, true, &p.m, &p.k, &x);
    split_matrix(&a->in[1]->shape, false, &k, &p.n, &y);

    p.batch.rank = x.rank > y.rank ? x.rank : y.rank;
    for (int d = 0; d < p.batch.rank; d++)
        p.batch.dim[d] = a->out[0].shape.dim[d];
    strides_broadcast(&x, &p.batch, p.stride[0]);
    strides_broadcast(&y, &p.batch, p.stride[1]);
    return p;
}

/* One [m,k] x [k,n] from element offsets x, y to z. */
static void matrix(const struct op_args *a, const struct elem *const *t, const struct product *p,
                   int64_t x, int64_t y, int64_t z)
{
    const void *xs = a->in[0]->data, *ys = a->in[1]->data;
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            double real = 0;
            uint64_t integer = 0;
            for (int64_t k = 0; k < p->k; k++) {
                int64_t at_x = x + i * p->k + k, at_y = y + k * p->n + j;
                if (t[0]->real)
                    real += t[1]->get_real(xs, at_x) * t[2]->get_real(ys, at_y);
                else
                    integer += (uint64_t)t[1]->get_int(xs, at_x) * (uint64_t)t[2]->get_int(ys, at_y);
            }
            if (t[0]->real)
                t[0]->put_real(a->out[0].data, z + i * p->n + j, real);
            else
                t[0]->put_int(a->out[0].data, z + i * p->n + j, (int64_t)integer);
        }
}

bool op_matmul(const struct op_args *a, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    if (!op_elems(a, t, e))
        return false;
    struct product p = product_of(a);
    struct walk w;
    int64_t z = 0;
    for (walk_init(&w, &p.batch, 2, (const walk_strides *)p.stride); w.more; walk_next(&w))
        for (int64_t b = 0; b < w.n; b++, z += p.m * p.n)
            matrix(a, t, &p, (w.at[0] + b * w.step[0]) * p.m * p.k, (w.at[1] + b * w.step[1]) * p.k * p.n, z);
    return true;
}

/* Codes as integers, which wrap: rows of y, times what x has for them. */
KERNEL_CLONES
static void matrix_i32(const struct product *p, const uint32_t *restrict x, const uint32_t *restrict y, uint32_t *restrict z)
{
    size_t n = (size_t)p->n;
    for (int64_t i = 0; i < p->m; i++, z += n) {
        memset(z, 0, n * sizeof *z);
        for (int64_t k = 0; k < p->k; k++)
            for (size_t j = 0; j < n; j++)
                z[j] += x[i * p->k + k] * y[(size_t)k * n + j];
    }
}

static void op_matmul_i32(const struct op_args *a)
{
    struct product p = product_of(a);
    struct walk w;
    uint32_t *z = a->out[0].data;
    for (walk_init(&w, &p.batch, 2, (const walk_strides *)p.stride); w.more; walk_next(&w))
        for (int64_t b = 0; b < w.n; b++, z += p.m * p.n)
            matrix_i32(&p, (const uint32_t *)a->in[0]->data + (w.at[0] + b * w.step[0]) * p.m * p.k,
                       (const uint32_t *)a->in[1]->data + (w.at[1] + b * w.step[1]) * p.k * p.n, z);
}

/* A run of matrices against one shared matrix, [b,m,k] x [k,n], is a single [b*m,k] x [k,n]. */
bool op_matmul_fast(const struct op_args *a, struct err *e)
{
    bool integers = a->in[0]->dtype == DT_I32 && a->in[1]->dtype == DT_I32 && a->out[0].dtype == DT_I32;
    if (integers)
        op_matmul_i32(a);
    if (integers || !op_all_f32(a))
        return integers || op_matmul(a, e);
    struct product p = product_of(a);
    const float *x = a->in[0]->data, *y = a->in[1]->data;
    float *z = a->out[0].data;
    struct walk w;
    for (walk_init(&w, &p.batch, 2, (const walk_strides *)p.stride); w.more; walk_next(&w)) {
        bool shared = w.step[0] == 1 && w.step[1] == 0 && p.m * w.n <= INT32_MAX;
        int64_t m = shared ? p.m * w.n : p.m;
        for (int64_t b = 0; b < (shared ? 1 : w.n); b++, z += m * p.n)
            gemm(false, false, (size_t)m, (size_t)p.n, (size_t)p.k, x + (w.at[0] + b * w.step[0]) * p.m * p.k, (size_t)p.k,
                 y + (w.at[1] + b * w.step[1]) * p.k * p.n, (size_t)p.n, false, z, (size_t)p.n);
    }
    return true;
}

/* ---- Gemm: y = alpha * op(a) * op(b) + beta * c ---- */

static double gemm_dot(const struct op_args *a, const struct elem *const *t, int64_t i, int64_t j, int64_t depth)
{
    const struct shape *x = &a->in[0]->shape, *y = &a->in[1]->shape;
    bool tx = node_int(a->node, "transA", 0), ty = node_int(a->node, "transB", 0);
    double sum = 0;
    for (int64_t k = 0; k < depth; k++)
        sum += t[1]->get_real(a->in[0]->data, tx ? k * x->dim[1] + i : i * x->dim[1] + k) *
               t[2]->get_real(a->in[1]->data, ty ? j * y->dim[1] + k : k * y->dim[1] + j);
    return sum;
}

bool op_gemm(const struct op_args *a, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    if (!op_elems(a, t, e))
        return false;
    const struct shape *out = &a->out[0].shape;
    const struct tensor *c = op_in(a, 2);
    double alpha = (double)node_float(a->node, "alpha", 1), beta = (double)node_float(a->node, "beta", 1);
    int64_t depth = a->in[0]->shape.dim[node_int(a->node, "transA", 0) ? 0 : 1];
    walk_strides stride = { 0 };
    if (c)
        strides_broadcast(&c->shape, out, stride);
    for (int64_t i = 0; i < out->dim[0]; i++)
        for (int64_t j = 0; j < out->dim[1]; j++) {
            double v = alpha * gemm_dot(a, t, i, j, depth);
            if (c)
                v += beta * t[3]->get_real(c->data, i * stride[0] + j * stride[1]);
            t[0]->put_real(a->out[0].data, i * out->dim[1] + j, v);
        }
    return true;
}

/* y = alpha * y + beta * c, c broadcast by `stride`; a row added as it is is the common case. */
static void add_c(float *y, int64_t m, int64_t n, const float *c, const walk_strides stride, float alpha, float beta)
{
    if (alpha == 1 && beta == 1 && stride[0] == 0 && stride[1] == 1) {
        vec_add_row((size_t)m, (size_t)n, y, c, y);
        return;
    }
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            y[i * n + j] = alpha * y[i * n + j] + beta * c[i * stride[0] + j * stride[1]];
}

bool op_gemm_fast(const struct op_args *a, struct err *e)
{
    if (!op_all_f32(a))
        return op_gemm(a, e);
    const struct shape *x = &a->in[0]->shape, *y = &a->in[1]->shape, *out = &a->out[0].shape;
    const struct tensor *c = op_in(a, 2);
    bool x_trans = node_int(a->node, "transA", 0), y_trans = node_int(a->node, "transB", 0);
    float alpha = node_float(a->node, "alpha", 1), beta = node_float(a->node, "beta", 1), *z = a->out[0].data;
    static const float zero;
    walk_strides stride = { 0 };

    gemm(x_trans, y_trans, (size_t)out->dim[0], (size_t)out->dim[1], (size_t)x->dim[x_trans ? 0 : 1],
         a->in[0]->data, (size_t)x->dim[1], a->in[1]->data, (size_t)y->dim[1], false, z, (size_t)out->dim[1]);
    if (c)
        strides_broadcast(&c->shape, out, stride);
    if (c || alpha != 1)
        add_c(z, out->dim[0], out->dim[1], c ? c->data : &zero, stride, alpha, c ? beta : 0);
    return true;
}
