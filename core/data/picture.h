/*
 * picture.h - one JPEG or PNG file to 8-bit RGB pixels, and pixels to another size.  Private to core/data.
 *
 * A picture is a stranger's file: its dimensions are checked before memory is taken, memory and work are bounded, and what
 * the libraries complain about becomes an error that names the file.
 */
#ifndef CORE_DATA_PICTURE_H
#define CORE_DATA_PICTURE_H

#include "core/base/buf.h"
#include "core/base/err.h"

#include <stdint.h>

enum { PICTURE_MAX_SIDE = 16384, PICTURE_MAX_PIXELS = 1 << 25, PICTURE_MAX_FILE = 64 << 20 };

struct picture {
    int width, height;
    uint8_t *rgb;                           /* [height][width][3]; malloc'd */
};
#define PICTURE_NONE ((struct picture){ 0 })
void picture_release(struct picture *p);

/*
 * Decodes p[0..n): JPEG (grey or colour, baseline or progressive) or PNG (every kind; 16 bits become the upper 8, transparency is
 * dropped), turned upright as its EXIF data say.  Grey becomes RGB.  ERR_DATA_FORMAT, ERR_DATA_LIMIT, ERR_MEMORY.
 */
bool picture_decode(const void *p, uint64_t n, const char *where, struct picture *ret, struct err *e);

/*
 * To width x height, with the filters of Pillow's Image.resize: a separable kernel that widens when it makes smaller, in fixed point
 * with 22 bits, each pass rounded to 8 bits, rows first.  The same bytes as Pillow.  (Pillow 13 and later take columns first where the
 * height shrinks much more than the width; such a distortion differs by a few of 255 steps between its releases.)
 */
enum resample { RESAMPLE_BICUBIC, RESAMPLE_BILINEAR };
bool picture_resize(const struct picture *from, int width, int height, enum resample how, struct picture *ret, struct err *e);

/* The part [left, left + width) x [top, top + height), which must lie inside. */
bool picture_crop(const struct picture *from, int left, int top, int width, int height, struct picture *ret, struct err *e);

/* As a PNG file; false without memory. */
bool picture_png(const struct picture *p, struct buf *ret);

/* ---- between the files of it ---- */

/* Zeroed room for the pixels; checks the dimensions. */
bool picture_alloc(struct picture *p, uint64_t width, uint64_t height, const char *where, struct err *e);
/* *ret_exif: the orientation, 1 to 8; 1 if it is not told. */
bool picture_jpeg(const uint8_t *p, size_t n, const char *where, struct picture *ret, int *ret_exif, struct err *e);
bool picture_unpng(const uint8_t *p, size_t n, const char *where, struct picture *ret, int *ret_exif, struct err *e);
/* The orientation in a block of EXIF data that begins with its TIFF header. */
int exif_orientation(const uint8_t *p, size_t n);

#endif
