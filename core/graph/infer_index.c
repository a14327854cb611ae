/* infer_index.c - rules of operators that put elements at places, or tell places. */
#include "core/graph/infer.h"

#include <string.h>

/* The one number that input i holds, or false (then an error is set unless it is only unknown). */
static bool one_number(struct call *c, int i, struct num *ret, struct err *e)
{
    int n;
    const struct num *a = call_elems(c, i, &n);
    *ret = NUM_UNKNOWN;
    if (a && n != 1)
        return bad_shape(c, e, "input %d has %d elements where one is needed", i, n);
    if (a)
        *ret = *a;
    return true;
}

bool rule_topk(struct call *c, struct err *e)
{
    struct shape out = call_in(c, 0)->shape;
    struct num k;
    int axis;
    if (!call_index_type(c, 1, e) || !one_number(c, 1, &k, e) || !call_axis(c, node_int(c->n, "axis", -1), out.rank, e, &axis))
        return false;
    if (num_known(k) && (k.n < 0 || (out.dim[axis] >= 0 && k.n > out.dim[axis])))
        return bad_shape(c, e, "k is %lld for an axis of shape %s", (long long)k.n, call_text(c, 0, &out));
    if (!call_dim(c, k, &out.dim[axis], e) || !call_set(c, 0, &out, e))
        return false;
    c->dtype = DT_I64;
    return call_set(c, 1, &out, e);
}

/* How many leading axes of the data one row of indices addresses; 0 with an error. */
static int index_depth(struct call *c, int batch, struct err *e)
{
    const struct shape *data = &call_in(c, 0)->shape, *index = &call_in(c, 1)->shape;
    int64_t depth = index->rank > 0 ? index->dim[index->rank - 1] : -1;
    if (!call_index_type(c, 1, e))
        return 0;
    if (depth >= 1 && depth <= data->rank - batch && batch >= 0 && batch < index->rank && batch < data->rank)
        return (int)depth;
    bad_shape(c, e, "indices of shape %s do not address a tensor of shape %s", call_text(c, 0, index), call_text(c, 1, data));
    return 0;
}

bool rule_gathernd(struct call *c, struct err *e)
{
    const struct shape *data = &call_in(c, 0)->shape, *index = &call_in(c, 1)->shape;
    int64_t batch = node_int(c->n, "batch_dims", 0), unused;
    int depth = batch < 0 || batch > TENSOR_MAX_RANK ? 0 : index_depth(c, (int)batch, e);
    struct shape out = { .rank = index->rank - 1 };
    if (!depth)
        return e->code ? false : bad_shape(c, e, "batch_dims is %lld", (long long)batch);
    for (int i = 0; i < batch; i++)
        if (!dim_same(data->dim[i], index->dim[i], &unused))
            return bad_shape(c, e, "the batch dimensions of %s and %s differ", call_text(c, 0, data), call_text(c, 1, index));
    if (out.rank + data->rank - depth - (int)batch > TENSOR_MAX_RANK)
        return err_set(e, ERR_MODEL_LIMIT, call_where(c), "its output has more than %d dimensions", TENSOR_MAX_RANK);
    memcpy(out.dim, index->dim, (size_t)out.rank * sizeof *out.dim);
    for (int i = (int)batch + depth; i < data->rank; i++)
        out.dim[out.rank++] = data->dim[i];
    return call_set(c, 0, &out, e);
}

static bool check_reduction(struct call *c, struct err *e)
{
    static const char *const known[] = { "none", "add", "mul", "min", "max" };
    const char *how = node_str(c->n, "reduction", "none");
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(how, known[i]) == 0)
            return true;
    return err_set(e, ERR_MODEL_OP, call_where(c), "the reduction '%.40s' is not supported", how);
}

static bool check_updates(struct call *c, const struct shape *want, struct err *e)
{
    const struct fact *f = call_in(c, 2);
    int64_t unused;
    bool fits = f->shape.rank == want->rank;
    for (int i = 0; fits && i < want->rank; i++)
        fits = dim_same(f->shape.dim[i], want->dim[i], &unused);
    if (fits && f->dtype == c->dtype)
        return true;
    return bad_shape(c, e, "the updates are %s of shape %s, expected are %s of shape %s", dtype_name(f->dtype),
                     call_text(c, 0, &f->shape), dtype_name(c->dtype), call_text(c, 1, want));
}

bool rule_scatternd(struct call *c, struct err *e)
{
    const struct shape *data = &call_in(c, 0)->shape, *index = &call_in(c, 1)->shape;
    int depth = check_reduction(c, e) ? index_depth(c, 0, e) : 0;
    struct shape want = { .rank = index->rank - 1 };
    if (!depth)
        return false;
    if (want.rank + data->rank - depth > TENSOR_MAX_RANK)
        return err_set(e, ERR_MODEL_LIMIT, call_where(c), "its updates have more than %d dimensions", TENSOR_MAX_RANK);
    memcpy(want.dim, index->dim, (size_t)want.rank * sizeof *want.dim);
    for (int i = depth; i < data->rank; i++)
        want.dim[want.rank++] = data->dim[i];
    return check_updates(c, &want, e) && call_set(c, 0, data, e);
}

bool rule_scatter_elements(struct call *c, struct err *e)
{
    const struct shape *data = &call_in(c, 0)->shape, *index = &call_in(c, 1)->shape;
    int axis;
    if (!call_index_type(c, 1, e) || !check_reduction(c, e) || !call_axis(c, node_int(c->n, "axis", 0), data->rank, e, &axis))
        return false;
    bool fits = index->rank == data->rank;
    for (int i = 0; fits && i < data->rank; i++)
        fits = i == axis || index->dim[i] < 0 || data->dim[i] < 0 || index->dim[i] <= data->dim[i];
    if (!fits)
        return bad_shape(c, e, "indices of shape %s do not fit a tensor of shape %s", call_text(c, 0, index), call_text(c, 1, data));
    return check_updates(c, index, e) && call_set(c, 0, data, e);
}

bool type_onehot(struct call *c, struct err *e)
{
    (void)e;
    c->dtype = call_in(c, 2)->dtype;
    return true;
}

/* The depth may be of any type of number: a real one is read from its bytes. */
static struct num depth_of(struct call *c)
{
    const struct fact *f = call_in(c, 1);
    struct num k = NUM_UNKNOWN;
    float f32;
    double f64;
    int n;
    const struct num *a = call_elems(c, 1, &n);
    if (a && n == 1)
        return *a;
    if (f->known && f->data && f->dtype == DT_F32) {
        memcpy(&f32, f->data, sizeof f32);
        k = f32 >= 0 && f32 < 1e9f ? NUM((int64_t)f32) : NUM_UNKNOWN;
    } else if (f->known && f->data && f->dtype == DT_F64) {
        memcpy(&f64, f->data, sizeof f64);
        k = f64 >= 0 && f64 < 1e9 ? NUM((int64_t)f64) : NUM_UNKNOWN;
    }
    return k;
}

bool rule_onehot(struct call *c, struct err *e)
{
    const struct shape *s = &call_in(c, 0)->shape, *values = &call_in(c, 2)->shape, *depth = &call_in(c, 1)->shape;
    struct shape out = { .rank = s->rank + 1 };
    int axis;
    if (out.rank > TENSOR_MAX_RANK)
        return err_set(e, ERR_MODEL_LIMIT, call_where(c), "its output has more than %d dimensions", TENSOR_MAX_RANK);
    if (values->rank != 1 || (values->dim[0] >= 0 && values->dim[0] != 2) || depth->rank > 1 || (depth->rank == 1 && depth->dim[0] != 1))
        return bad_shape(c, e, "its depth is not one number, or its values are not two");
    if (!call_axis(c, node_int(c->n, "axis", -1), out.rank, e, &axis) || !call_dim(c, depth_of(c), &out.dim[axis], e))
        return false;
    for (int i = 0, from = 0; i < out.rank; i++)
        if (i != axis)
            out.dim[i] = s->dim[from++];
    return call_set(c, 0, &out, e);
}

bool type_eyelike(struct call *c, struct err *e)
{
    int64_t t = node_int(c->n, "dtype", 0);
    if (t)
        c->dtype = t > 0 && t < 32 ? (enum dtype)t : DT_NONE;
    return dtype_bits(c->dtype) >= 8 || err_set(e, ERR_MODEL_OP, call_where(c), "a result of type number %lld is not supported", (long long)t);
}

bool rule_eyelike(struct call *c, struct err *e) { return call_rank(c, 0, 2, e) && call_set(c, 0, &call_in(c, 0)->shape, e); }

/* How many there are is known only of bytes that are known; the evaluator then fills them in. */
bool rule_nonzero(struct call *c, struct err *e)
{
    const struct fact *f = call_in(c, 0);
    struct shape out = { .rank = 2, .dim = { f->shape.rank } };
    struct num n = NUM_UNKNOWN;
    uint64_t bytes, width = (uint64_t)dtype_bits(f->dtype) / 8;
    if (f->known && !f->narrow && tensor_size(f->dtype, &f->shape, "", NULL, &bytes, NULL)) {
        bool real = f->dtype == DT_F32 || f->dtype == DT_F64 || f->dtype == DT_F16 || f->dtype == DT_BF16;
        n = NUM(0);
        for (uint64_t i = 0; i < bytes; i += width) {
            const uint8_t *p = (const uint8_t *)f->data + i;
            bool any = real && (p[width - 1] & 0x7F);      /* the sign of a zero does not count */
            for (uint64_t k = 0; k < width - real; k++)
                any |= p[k] != 0;
            n.n += any;
        }
    }
    return call_dim(c, n, &out.dim[1], e) && call_set(c, 0, &out, e);
}

/* ---- DepthToSpace, SpaceToDepth ---- */

static bool block_size(struct call *c, int64_t *ret, struct err *e)
{
    const char *mode = node_str(c->n, "mode", "DCR");
    *ret = node_int(c->n, "blocksize", 0);
    if (!call_rank(c, 0, 4, e))
        return false;
    if (strcmp(mode, "DCR") != 0 && strcmp(mode, "CRD") != 0)
        return err_set(e, ERR_MODEL_OP, call_where(c), "the mode '%.40s' is not supported", mode);
    return (*ret >= 1 && *ret <= 1 << 16) || bad_shape(c, e, "its blocksize is %lld", (long long)*ret);
}

bool rule_depth_to_space(struct call *c, struct err *e)
{
    struct shape s = call_in(c, 0)->shape;
    struct symbols *syms = c->x->syms;
    int64_t b;
    if (!block_size(c, &b, e))
        return false;
    if (s.dim[1] >= 0 && s.dim[1] % (b * b))
        return bad_shape(c, e, "the channels of %s are not whole blocks of %lld by %lld", call_text(c, 0, &s), (long long)b, (long long)b);
    return call_dim(c, num_div(syms, num_dim(s.dim[1]), NUM(b * b)), &s.dim[1], e) &&
           call_dim(c, num_mul(syms, num_dim(s.dim[2]), NUM(b)), &s.dim[2], e) &&
           call_dim(c, num_mul(syms, num_dim(s.dim[3]), NUM(b)), &s.dim[3], e) && call_set(c, 0, &s, e);
}

bool rule_space_to_depth(struct call *c, struct err *e)
{
    struct shape s = call_in(c, 0)->shape;
    struct symbols *syms = c->x->syms;
    int64_t b;
    if (!block_size(c, &b, e))
        return false;
    if ((s.dim[2] >= 0 && s.dim[2] % b) || (s.dim[3] >= 0 && s.dim[3] % b))
        return bad_shape(c, e, "an image of %s is not whole blocks of %lld by %lld", call_text(c, 0, &s), (long long)b, (long long)b);
    return call_dim(c, num_mul(syms, num_dim(s.dim[1]), NUM(b * b)), &s.dim[1], e) &&
           call_dim(c, num_div(syms, num_dim(s.dim[2]), NUM(b)), &s.dim[2], e) &&
           call_dim(c, num_div(syms, num_dim(s.dim[3]), NUM(b)), &s.dim[3], e) && call_set(c, 0, &s, e);
}
