#include "core/data/picture.h"

#include <stdlib.h>
#include <string.h>

void picture_release(struct picture *p)
{
    free(p->rgb);
    *p = PICTURE_NONE;
}

bool picture_alloc(struct picture *p, uint64_t width, uint64_t height, const char *where, struct err *e)
{
    *p = PICTURE_NONE;
    if (width < 1 || height < 1 || width > PICTURE_MAX_SIDE || height > PICTURE_MAX_SIDE || width * height > PICTURE_MAX_PIXELS)
        return err_set(e, ERR_DATA_LIMIT, where, "the picture has %llu x %llu pixels; at most %d a side and %d in all are read: make it smaller",
                       (unsigned long long)width, (unsigned long long)height, PICTURE_MAX_SIDE, PICTURE_MAX_PIXELS);
    p->rgb = calloc((size_t)(width * height), 3);
    if (!p->rgb)
        return err_set(e, ERR_MEMORY, where, "no memory for %llu x %llu pixels", (unsigned long long)width, (unsigned long long)height);
    p->width = (int)width;
    p->height = (int)height;
    return true;
}

/* ---- EXIF ---- */

struct tiff { const uint8_t *p; size_t n; bool big; };

static uint32_t tiff_get(const struct tiff *t, size_t at, int bytes)
{
    uint32_t x = 0;
    for (int i = 0; i < bytes; i++)
        x |= (uint32_t)t->p[at + (size_t)i] << 8 * (t->big ? bytes - 1 - i : i);
    return x;
}

/* The first directory is a count of 12-byte entries: tag, type, number of values, value. */
int exif_orientation(const uint8_t *p, size_t n)
{
    enum { ORIENTATION = 0x0112, SHORT = 3 };
    struct tiff t = { p, n, n >= 8 && p[0] == 'M' };
    if (n < 14 || (memcmp(p, "II*\0", 4) != 0 && memcmp(p, "MM\0*", 4) != 0))
        return 1;
    size_t at = tiff_get(&t, 4, 4);
    if (at > n - 2)
        return 1;
    size_t entries = tiff_get(&t, at, 2);
    for (at += 2; entries && at <= n - 12 && n >= 12; entries--, at += 12) {
        uint32_t value = tiff_get(&t, at + 8, 2);
        if (tiff_get(&t, at, 2) == ORIENTATION && tiff_get(&t, at + 2, 2) == SHORT)
            return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

/* Where pixel (x, y) of the upright picture lies in the stored one of w x h. */
static size_t stored_at(int exif, int x, int y, int w, int h)
{
    int sx = exif == 1 || exif == 4 ? x : exif == 2 || exif == 3 ? w - 1 - x : exif == 5 || exif == 6 ? y : w - 1 - y;
    int sy = exif == 1 || exif == 2 ? y : exif == 3 || exif == 4 ? h - 1 - y : exif == 5 || exif == 8 ? x : h - 1 - x;
    return ((size_t)sy * (size_t)w + (size_t)sx) * 3;
}

static bool turn_upright(struct picture *p, int exif, const char *where, struct err *e)
{
    struct picture to;
    bool swap = exif >= 5;
    if (exif == 1)
        return true;
    if (!picture_alloc(&to, (uint64_t)(swap ? p->height : p->width), (uint64_t)(swap ? p->width : p->height), where, e))
        return false;
    uint8_t *out = to.rgb;
    for (int y = 0; y < to.height; y++)
        for (int x = 0; x < to.width; x++, out += 3)
            memcpy(out, p->rgb + stored_at(exif, x, y, p->width, p->height), 3);
    picture_release(p);
    *p = to;
    return true;
}

/* ---- together ---- */

static bool is_jpeg(const uint8_t *p, uint64_t n) { return n >= 3 && memcmp(p, "\xff\xd8\xff", 3) == 0; }
static bool is_png(const uint8_t *p, uint64_t n) { return n >= 8 && memcmp(p, "\x89PNG\r\n\x1a\n", 8) == 0; }

bool picture_decode(const void *p, uint64_t n, const char *where, struct picture *ret, struct err *e)
{
    int exif = 1;
    *ret = PICTURE_NONE;
    if (n > PICTURE_MAX_FILE)
        return err_set(e, ERR_DATA_LIMIT, where, "the file has %llu bytes, a picture at most %d", (unsigned long long)n, PICTURE_MAX_FILE);
    bool ok = is_jpeg(p, n) ? picture_jpeg(p, (size_t)n, where, ret, &exif, e)
            : is_png(p, n) ? picture_unpng(p, (size_t)n, where, ret, &exif, e)
            : err_set(e, ERR_DATA_FORMAT, where, "this is no JPEG and no PNG file; save the picture as one of them");
    if (ok && turn_upright(ret, exif, where, e))
        return true;
    picture_release(ret);
    return false;
}

bool picture_crop(const struct picture *from, int left, int top, int width, int height, struct picture *ret, struct err *e)
{
    if (!picture_alloc(ret, (uint64_t)width, (uint64_t)height, "crop", e))
        return false;
    for (int y = 0; y < height; y++)
        memcpy(ret->rgb + (size_t)y * (size_t)width * 3, from->rgb + ((size_t)(top + y) * (size_t)from->width + (size_t)left) * 3, (size_t)width * 3);
    return true;
}
