#include "core/data/preprocess.h"

#include "core/base/json.h"

#include <stdio.h>
#include <string.h>

static const enum err_code BAD = ERR_DATA_FORMAT;

static bool known_member(const char *key, struct err *e)
{
    static const char *const members[] = { "resize", "interpolation", "crop", "mean", "std", "layout", "input" };
    char where[80];
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (strcmp(members[i], key) == 0)
            return true;
    snprintf(where, sizeof where, "preprocess.json/%.50s", key);
    return err_set(e, BAD, where, "there is no member of this name; resize, interpolation, crop, mean, std, layout and input are known");
}

static bool take_side(const json_t *v, int *ret)
{
    json_int_t n = json_integer_value(v);
    *ret = (int)n;
    return json_is_integer(v) && n >= 1 && n <= PICTURE_MAX_SIDE;
}

/* A number or [height, width]; a number is a height with `width` left at 0. */
static bool take_sides(const json_t *o, const char *key, struct side_pair *ret, struct err *e)
{
    char where[64];
    const json_t *v = json_object_get(o, key);
    *ret = (struct side_pair){ 0 };
    if (!v || json_is_null(v) || take_side(v, &ret->height))
        return true;
    snprintf(where, sizeof where, "preprocess.json/%s", key);
    if (json_array_size(v) == 2 && take_side(json_array_get(v, 0), &ret->height) && take_side(json_array_get(v, 1), &ret->width))
        return true;
    return err_set(e, BAD, where, "give a number of pixels from 1 to %d, or [height, width]", PICTURE_MAX_SIDE);
}

static bool take_three(const json_t *o, const char *key, bool positive, float ret[3], struct err *e)
{
    char where[64];
    const json_t *v = json_object_get(o, key);
    bool ok = json_array_size(v) == 3;
    for (size_t i = 0; ok && i < 3; i++) {
        double x = json_number_value(json_array_get(v, i));
        ret[i] = (float)x;
        ok = json_is_number(json_array_get(v, i)) && (positive ? x >= 1e-6 : x >= -1e6) && x <= 1e6;
    }
    snprintf(where, sizeof where, "preprocess.json/%s", key);
    return ok || err_set(e, BAD, where, "give three %snumbers, one for each channel, of pixels in 0..1: for example %s", positive ? "positive " : "",
                         positive ? "[0.229, 0.224, 0.225]" : "[0.485, 0.456, 0.406]");
}

/* One of two words; absent is the first. */
static bool take_word(const json_t *o, const char *key, const char *one, const char *two, bool *ret_second, struct err *e)
{
    char where[64];
    const json_t *v = json_object_get(o, key);
    const char *s = v ? json_string_value(v) : one;
    *ret_second = s && strcmp(s, two) == 0;
    snprintf(where, sizeof where, "preprocess.json/%s", key);
    return (s && (*ret_second || strcmp(s, one) == 0)) || err_set(e, BAD, where, "\"%s\" must be \"%s\" or \"%s\"", key, one, two);
}

static bool take_input(const json_t *o, struct preprocess *p, struct err *e)
{
    const json_t *v = json_object_get(o, "input");
    const char *s = v ? json_string_value(v) : "pixel_values";
    if (!s || !*s || strlen(s) >= sizeof p->input || strcmp(s, "labels") == 0)
        return err_set(e, BAD, "preprocess.json/input", "give the name of the model's input, at most %zu bytes, not \"labels\"", sizeof p->input - 1);
    snprintf(p->input, sizeof p->input, "%s", s);
    return true;
}

static bool parse(const json_t *o, struct preprocess *p, struct err *e)
{
    const char *key;
    json_t *value;
    float mean[3], std[3];
    bool linear;
    if (!json_is_object(o))
        return err_set(e, BAD, "preprocess.json", "it must be a JSON object with at least mean and std");
    json_object_foreach((json_t *)(uintptr_t)o, key, value)
        if (!known_member(key, e))
            return false;
    if (!take_sides(o, "resize", &p->resize, e) || !take_sides(o, "crop", &p->crop, e) || !take_three(o, "mean", false, mean, e)
        || !take_three(o, "std", true, std, e) || !take_word(o, "interpolation", "bicubic", "bilinear", &linear, e)
        || !take_word(o, "layout", "NCHW", "NHWC", &p->nhwc, e) || !take_input(o, p, e))
        return false;
    if (p->crop.height && !p->crop.width)
        p->crop.width = p->crop.height;
    p->how = linear ? RESAMPLE_BILINEAR : RESAMPLE_BICUBIC;
    for (int c = 0; c < 3; c++)
        for (int x = 0; x < 256; x++)
            p->value[c][x] = ((float)x / 255.0f - mean[c]) / std[c];
    return true;
}

bool preprocess_parse(const char *json, size_t n, struct preprocess *ret, struct err *e)
{
    enum { MAX_DEPTH = 4 };
    struct err inner = { 0 };
    *ret = (struct preprocess){ 0 };
    json_t *o = json_parse(json, n, MAX_DEPTH, BAD, &inner);
    bool ok = o ? parse(o, ret, e) : err_set(e, BAD, "preprocess.json", "%s", inner.text);
    json_decref(o);
    return ok;
}

/* ---- one picture ---- */

static void new_sides(const struct preprocess *p, const struct picture *from, int *ret_width, int *ret_height)
{
    int64_t w = from->width, h = from->height, side = p->resize.height;
    if (p->resize.width || !side) {
        *ret_width = side ? p->resize.width : from->width;
        *ret_height = side ? p->resize.height : from->height;
        return;
    }
    *ret_width = (int)(w <= h ? side : w * side / h);
    *ret_height = (int)(w <= h ? h * side / w : side);
}

bool preprocess_frame(const struct preprocess *p, const struct picture *from, const char *where, struct picture *ret, struct err *e)
{
    int width, height;
    struct picture sized;
    struct err inner = { 0 };
    new_sides(p, from, &width, &height);
    if (!picture_resize(from, width, height, p->how, &sized, &inner))
        return err_set(e, inner.code, where, "%s", inner.text);
    if (!p->crop.height) {
        *ret = sized;
        return true;
    }
    bool ok = sized.width >= p->crop.width && sized.height >= p->crop.height;
    if (!ok)
        err_set(e, ERR_DATA_SHAPE, where, "the picture has %d x %d pixels when it is to be cropped to %d x %d; resize to more in preprocess.json",
                sized.width, sized.height, p->crop.width, p->crop.height);
    ok = ok && picture_crop(&sized, (sized.width - p->crop.width) / 2, (sized.height - p->crop.height) / 2, p->crop.width, p->crop.height, ret, e);
    picture_release(&sized);
    return ok;
}

void preprocess_values(const struct preprocess *p, const struct picture *frame, float *to)
{
    size_t n = (size_t)frame->width * (size_t)frame->height;
    const uint8_t *rgb = frame->rgb;
    size_t pixel = p->nhwc ? 3 : 1, channel = p->nhwc ? 1 : n;
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < 3; c++)
            to[i * pixel + c * channel] = p->value[c][*rgb++];
}
