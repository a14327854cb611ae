#include "core/data/convert.h"

#include "core/base/half.h"
#include "core/data/format.h"

#include <math.h>
#include <string.h>

static const struct { enum dtype t; bool is_float; } kinds[] = {
    { DT_F32, true }, { DT_F64, true }, { DT_F16, true }, { DT_BF16, true },
    { DT_U8, false }, { DT_U16, false }, { DT_U32, false }, { DT_U64, false },
    { DT_I8, false }, { DT_I16, false }, { DT_I32, false }, { DT_I64, false },
};

static int kind_of(enum dtype t)           /* 1 float, 0 integer, -1 neither */
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].t == t)
            return kinds[i].is_float;
    return -1;
}

bool dtype_is_float(enum dtype t) { return kind_of(t) == 1; }
bool dtype_is_integer(enum dtype t) { return kind_of(t) == 0; }

double tensor_real(const struct tensor *t, int64_t i)
{
    int64_t whole = 0;
    switch (t->dtype) {
    case DT_F32: return ((const float *)t->data)[i];
    case DT_F64: return ((const double *)t->data)[i];
    case DT_F16: return half_of_f16(((const uint16_t *)t->data)[i]);
    case DT_BF16: return half_of_bf16(((const uint16_t *)t->data)[i]);
    case DT_U64: return (double)((const uint64_t *)t->data)[i];
    default: tensor_integer(t, i, &whole); return (double)whole;
    }
}

bool tensor_integer(const struct tensor *t, int64_t i, int64_t *ret)
{
    switch (t->dtype) {
    case DT_BOOL:
    case DT_U8: *ret = ((const uint8_t *)t->data)[i]; return true;
    case DT_I8: *ret = ((const int8_t *)t->data)[i]; return true;
    case DT_U16: *ret = ((const uint16_t *)t->data)[i]; return true;
    case DT_I16: *ret = ((const int16_t *)t->data)[i]; return true;
    case DT_U32: *ret = ((const uint32_t *)t->data)[i]; return true;
    case DT_I32: *ret = ((const int32_t *)t->data)[i]; return true;
    case DT_I64: *ret = ((const int64_t *)t->data)[i]; return true;
    case DT_U64: *ret = (int64_t)((const uint64_t *)t->data)[i]; return *ret >= 0;
    default: return false;
    }
}

bool dtype_convertible(enum dtype from, enum dtype to)
{
    return from == to || (dtype_is_float(from) && to == DT_F32) || (dtype_is_integer(from) && (to == DT_I32 || to == DT_I64));
}

static bool to_f32(const struct array *a, float *to, int64_t from, int64_t end, struct err *e)
{
    for (int64_t i = from; i < end; i++) {
        double x = tensor_real(&a->t, i);
        to[i] = (float)x;
        if (isinf(to[i]) && !isinf(x))
            return err_set(e, ERR_DATA_VALUES, a->name,
                           "the value %g at flat index %lld is too large for float32; save float32 and look for overflows", x,
                           (long long)i);
    }
    return true;
}

static bool to_integer(const struct array *a, enum dtype type, void *to, int64_t from, int64_t end, struct err *e)
{
    for (int64_t i = from; i < end; i++) {
        int64_t x;
        bool fits = tensor_integer(&a->t, i, &x) && (type == DT_I64 || (x >= INT32_MIN && x <= INT32_MAX));
        if (!fits)
            return err_set(e, ERR_DATA_VALUES, a->name, "the value at flat index %lld does not fit the model's %s",
                           (long long)i, dtype_name(type));
        if (type == DT_I64)
            ((int64_t *)to)[i] = x;
        else
            ((int32_t *)to)[i] = (int32_t)x;
    }
    return true;
}

bool array_convert(struct arena *mem, const struct array *a, enum dtype to, struct array *ret, struct err *e)
{
    uint64_t bytes;
    *ret = *a;
    if (a->t.dtype == to)
        return true;
    ret->t.dtype = to;
    if (!array_size(to, &a->t.shape, a->name, &bytes, e) || !array_alloc(mem, bytes, a->name, ret, e))
        return false;
    int64_t n = shape_elements(&a->t.shape), step = DATA_PIECE / (int64_t)sizeof(int64_t);
    for (int64_t at = 0; at < n; at += step) {
        int64_t end = n - at < step ? n : at + step;
        if (!(to == DT_F32 ? to_f32(a, ret->t.data, at, end, e) : to_integer(a, to, ret->t.data, at, end, e)))
            return false;
        array_rest(a, at, end - at);
        array_rest(ret, at, end - at);
    }
    return true;
}
