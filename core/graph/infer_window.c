/* infer_window.c - rules of pooling, Resize and Einsum. */
#include "core/graph/infer.h"
#include "core/graph/window.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

/* ---- pooling ---- */

static bool read_ints(const struct node *n, const char *name, size_t want, int64_t least, int64_t fallback, int64_t *ret)
{
    size_t given;
    const int64_t *list = node_ints(n, name, &given);
    for (size_t i = 0; i < want; i++) {
        ret[i] = list && given == want ? list[i] : fallback;
        if (ret[i] < least || ret[i] > INT32_MAX)
            return false;
    }
    return !list || given == want;
}

bool window_of(const struct node *n, const int64_t *image, int axes, struct window *ret)
{
    const char *mode = node_str(n, "auto_pad", "NOTSET");
    int64_t pads[2 * WINDOW_AXES];
    size_t size = (size_t)axes;
    *ret = (struct window){ .n = axes };
    if (axes < 1 || axes > WINDOW_AXES || !read_ints(n, "kernel_shape", size, 1, 0, ret->kernel) ||
        !read_ints(n, "strides", size, 1, 1, ret->stride) || !read_ints(n, "dilations", size, 1, 1, ret->dilation) ||
        !read_ints(n, "pads", 2 * size, 0, 0, pads))
        return false;
    for (int i = 0; i < axes; i++) {
        int64_t extent = (ret->kernel[i] - 1) * ret->dilation[i] + 1;
        int64_t out = (image[i] + ret->stride[i] - 1) / ret->stride[i], total = (out - 1) * ret->stride[i] + extent - image[i];
        bool same = strncmp(mode, "SAME_", 5) == 0, given = strcmp(mode, "NOTSET") == 0;
        total = same && total > 0 ? total : 0;
        ret->before[i] = given ? pads[i] : strcmp(mode, "SAME_LOWER") == 0 ? total - total / 2 : total / 2;
        ret->after[i] = given ? pads[i + axes] : total - ret->before[i];
    }
    return true;
}

int64_t window_length(const struct node *n, const struct window *w, int axis, int64_t length)
{
    int64_t extent = (w->kernel[axis] - 1) * w->dilation[axis] + 1, room = length + w->before[axis] + w->after[axis] - extent;
    if (room < 0)
        return -1;
    int64_t out = room / w->stride[axis] + 1;
    /* Rounded up, but no window begins in the padding behind the image. */
    if (node_int(n, "ceil_mode", 0) && room % w->stride[axis] && out * w->stride[axis] < length + w->before[axis])
        out++;
    return out;
}

bool rule_pool(struct call *c, struct err *e)
{
    const struct shape *x = &call_in(c, 0)->shape;
    struct shape out = *x;
    struct window w;
    int64_t image[WINDOW_AXES] = { 0 };
    if (x->rank < 3 || x->rank > 2 + WINDOW_AXES)
        return err_set(e, ERR_MODEL_OP, call_where(c), "pooling of shape %s is not supported, only over one to three axes", call_text(c, 0, x));
    for (int i = 2; i < x->rank; i++)
        image[i - 2] = x->dim[i] < 0 ? 1 : x->dim[i];
    if (!window_of(c->n, image, x->rank - 2, &w))
        return bad_shape(c, e, "its kernel, strides, dilations or pads do not fit a tensor of shape %s", call_text(c, 0, x));
    for (int i = 0; i < w.n; i++) {
        int64_t n = window_length(c->n, &w, i, image[i]);
        if (x->dim[i + 2] >= 0 && n < 0)
            return bad_shape(c, e, "spatial axis %d of shape %s is smaller than the kernel", i, call_text(c, 0, x));
        if (!call_dim(c, x->dim[i + 2] < 0 ? NUM_UNKNOWN : NUM(n), &out.dim[i + 2], e))
            return false;
    }
    if (!call_set(c, 0, &out, e))
        return false;
    c->dtype = DT_I64;
    return call_set(c, 1, &out, e);
}

/* ---- Resize ---- */

static bool scale_at(const struct fact *f, int i, double *ret)
{
    float v;
    if (!f || !f->known || !f->data || f->dtype != DT_F32)
        return false;
    memcpy(&v, (const char *)f->data + (size_t)i * 4, sizeof v);
    *ret = (double)v;
    return *ret > 0 && *ret < 1e9;
}

/* With an aspect ratio to keep, every axis gets the smallest or the largest of the scales. */
static double kept_ratio(const struct node *n, const struct shape *x, const struct axes *axes, const struct num *sizes)
{
    const char *policy = node_str(n, "keep_aspect_ratio_policy", "stretch");
    bool larger = strcmp(policy, "not_smaller") == 0;
    double best = 0;
    if (strcmp(policy, "stretch") == 0)
        return 0;
    for (int k = 0; k < axes->n; k++) {
        double s = (double)sizes[k].n / (double)x->dim[axes->v[k]];
        best = k == 0 || (larger ? s > best : s < best) ? s : best;
    }
    return best;
}

/* Sizes are integers and win over scales, which are float32; one for each axis. */
static bool check_targets(struct call *c, int axes, struct err *e)
{
    const struct fact *f = call_in(c, 3) ? call_in(c, 3) : call_in(c, 2);
    int64_t unused;
    if (!f)
        return err_set(e, ERR_MODEL_INVALID, call_where(c), "it has neither sizes nor scales");
    if (call_in(c, 3) ? !call_index_type(c, 3, e) : f->dtype != DT_F32 && f->dtype != DT_NONE)
        return e->code ? false : err_set(e, ERR_MODEL_OP, call_where(c), "scales of type %s are not supported", dtype_name(f->dtype));
    return (f->shape.rank == 1 && dim_same(f->shape.dim[0], axes, &unused)) ||
           bad_shape(c, e, "its sizes or scales of shape %s are not one for each of the %d axes", call_text(c, 0, &f->shape), axes);
}

static bool resize_axis(struct call *c, const struct shape *x, int axis, int k, const struct num *sizes, double ratio, int64_t *ret, struct err *e)
{
    double scale = 0;
    if (call_in(c, 3) && !sizes)
        return call_dim(c, NUM_UNKNOWN, ret, e);
    if (sizes && num_known(sizes[k]) && ratio > 0)
        return call_dim(c, NUM((int64_t)floor(ratio * (double)x->dim[axis] + 0.5)), ret, e);
    if (sizes)
        return call_dim(c, sizes[k], ret, e);
    if (!scale_at(call_in(c, 2), k, &scale) || x->dim[axis] < 0)
        return call_dim(c, scale == 1 ? num_dim(x->dim[axis]) : NUM_UNKNOWN, ret, e);
    float n = floorf((float)x->dim[axis] * (float)scale);      /* in float32, as runtimes do */
    return call_dim(c, (double)n > (double)TENSOR_MAX_DIM ? NUM_OVERFLOW : NUM((int64_t)n), ret, e);
}

/* The attributes that are one of a few words; the first is the default. */
static bool check_words(struct call *c, struct err *e)
{
    static const struct { const char *attr, *words[8]; } known[] = {
        { "mode", { "nearest", "linear", "cubic" } },
        { "coordinate_transformation_mode", { "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
                                              "tf_half_pixel_for_nn", "tf_crop_and_resize" } },
        { "nearest_mode", { "round_prefer_floor", "round_prefer_ceil", "floor", "ceil" } },
        { "keep_aspect_ratio_policy", { "stretch", "not_larger", "not_smaller" } },
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const char *word = node_str(c->n, known[i].attr, known[i].words[0]);
        const char *const *w = known[i].words;
        while (*w && strcmp(*w, word) != 0)
            w++;
        if (!*w)
            return err_set(e, ERR_MODEL_OP, call_where(c), "the %s '%.40s' is not supported", known[i].attr, word);
    }
    return true;
}

bool rule_resize(struct call *c, struct err *e)
{
    const struct shape *x = &call_in(c, 0)->shape;
    struct shape out = *x;
    struct axes axes = { .n = x->rank, .v = { 0, 1, 2, 3, 4, 5, 6, 7 } };
    bool given, known, fits = true;
    int n = 0;
    if (!check_words(c, e))
        return false;
    const struct num *sizes = call_elems(c, 3, &n);
    if (node_attr(c->n, "axes") && !call_axes(c, 255, x->rank, &axes, &given, &known, e))
        return false;
    if (!check_targets(c, axes.n, e))
        return false;
    for (int k = 0; sizes && k < n; k++)
        if (!num_known(sizes[k]) || x->dim[axes.v[k]] <= 0)
            fits = false;
    double ratio = sizes && fits ? kept_ratio(c->n, x, &axes, sizes) : 0;
    for (int k = 0; k < axes.n; k++)
        if (!resize_axis(c, x, axes.v[k], k, sizes, ratio, &out.dim[axes.v[k]], e))
            return false;
    return call_set(c, 0, &out, e);
}

/* ---- Einsum ---- */

struct letters { char name[EINSUM_LABELS]; int count; };

static int letter(struct letters *l, char name)
{
    for (int i = 0; i < l->count; i++)
        if (l->name[i] == name)
            return i;
    if (l->count == EINSUM_LABELS)
        return -1;
    l->name[l->count] = name;
    return l->count++;
}

/* Axes of an ellipsis are the letters 1, 2, ... counted from the right. */
static const char *add_dots(struct letters *l, int count, struct einsum *r, int operand)
{
    for (int d = count; d > 0; d--) {
        int at = letter(l, (char)d);
        if (at < 0 || r->rank[operand] == TENSOR_MAX_RANK)
            return "has too many dimensions";
        r->label[operand][r->rank[operand]++] = at;
    }
    return NULL;
}

/* One term of the equation up to `end`; rank -1: the output, whose ellipsis is as wide as the widest. */
static const char *read_term(const char *p, const char *end, int rank, int *widest, struct letters *l, struct einsum *r, int operand)
{
    int written = 0;
    for (const char *q = p; q < end; q++)
        written += isalpha((unsigned char)*q) != 0;
    for (; p < end; p++) {
        const char *why = NULL;
        if (*p == ' ')
            continue;
        if (*p == '.') {
            int dots = rank < 0 ? *widest : rank - written;
            if (end - p < 3 || p[1] != '.' || p[2] != '.' || dots < 0)
                return "has an ellipsis that does not fit";
            *widest = dots > *widest ? dots : *widest;
            why = add_dots(l, dots, r, operand);
            p += 2;
        } else {
            int at = isalpha((unsigned char)*p) ? letter(l, *p) : -1;
            if (at < 0 || r->rank[operand] == TENSOR_MAX_RANK)
                return at < 0 ? "has a letter that is none, or too many of them" : "has too many dimensions";
            r->label[operand][r->rank[operand]++] = at;
        }
        if (why)
            return why;
    }
    return rank >= 0 && r->rank[operand] != rank ? "does not have a letter for each dimension of its inputs" : NULL;
}

/* Without "->" the output has the ellipsis and then every letter that occurs once, by alphabet. */
static const char *implied_output(struct letters *l, int widest, int operands, struct einsum *r)
{
    const char *why = add_dots(l, widest, r, operands);
    for (int name = 'A'; !why && name <= 'z'; name++) {
        int uses = 0, at = -1;
        for (int i = 0; i < l->count; i++)
            at = l->name[i] == name ? i : at;
        for (int k = 0; at >= 0 && k < operands; k++)
            for (int d = 0; d < r->rank[k]; d++)
                uses += r->label[k][d] == at;
        if (uses == 1 && r->rank[operands] == TENSOR_MAX_RANK)
            return "has too many dimensions";
        if (uses == 1)
            r->label[operands][r->rank[operands]++] = at;
    }
    return why;
}

const char *einsum_parse(const char *equation, int operands, const int *ranks, struct einsum *ret)
{
    struct letters l = { .count = 0 };
    const char *arrow = strstr(equation, "->"), *end = arrow ? arrow : equation + strlen(equation), *p = equation, *why;
    int widest = 0;
    *ret = (struct einsum){ 0 };
    for (int k = 0; k < operands; k++) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        if (!comma != (k == operands - 1))
            return "does not have a term for each input";
        why = read_term(p, comma ? comma : end, ranks[k], &widest, &l, ret, k);
        if (why)
            return why;
        p = comma ? comma + 1 : end;
    }
    int inputs = l.count;
    why = arrow ? read_term(arrow + 2, arrow + strlen(arrow), -1, &widest, &l, ret, operands) : implied_output(&l, widest, operands, ret);
    ret->labels = l.count;
    for (int d = 0; !why && d < ret->rank[operands]; d++)
        for (int other = 0; other < d; other++)
            if (ret->label[operands][d] == ret->label[operands][other])
                return "repeats a letter in its output";
    return why ? why : l.count != inputs ? "has a letter in its output that no input has" : NULL;
}

bool rule_einsum(struct call *c, struct err *e)
{
    int ranks[EINSUM_OPERANDS], operands = c->n->n_in;
    int64_t dim[EINSUM_LABELS];
    struct einsum es;
    for (int k = 0; k < operands; k++)
        ranks[k] = call_in(c, k)->shape.rank;
    const char *why = einsum_parse(node_str(c->n, "equation", ""), operands, ranks, &es);
    if (why)
        return err_set(e, ERR_MODEL_OP, call_where(c), "the equation '%.60s' %s", node_str(c->n, "equation", ""), why);
    for (int i = 0; i < EINSUM_LABELS; i++)
        dim[i] = 1;
    for (int k = 0; k < operands; k++)
        for (int d = 0; d < es.rank[k]; d++) {
            int64_t *have = &dim[es.label[k][d]], is = call_in(c, k)->shape.dim[d];
            if (*have == 1)
                *have = is;
            else if (is != 1 && !dim_same(*have, is, have))
                return bad_shape(c, e, "a letter of '%.60s' has the lengths %lld and %lld", node_str(c->n, "equation", ""), (long long)*have, (long long)is);
        }
    struct shape out = { .rank = es.rank[operands] };
    for (int d = 0; d < out.rank; d++)
        out.dim[d] = dim[es.label[operands][d]];
    return call_set(c, 0, &out, e);
}
