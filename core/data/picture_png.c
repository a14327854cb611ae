/* picture_png.c - PNG by libpng, read and written in memory. */
#include "core/data/picture.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_MAX = 1 << 20, CHUNKS_MAX = 32 };

struct unpng {
    const uint8_t *p;
    size_t n;                               /* left */
    const char *where;
    struct picture *ret;
    png_bytep *rows;                        /* malloc'd */
    int exif;
    struct err *e;
};

static void fail(png_structp png, png_const_charp text)
{
    struct unpng *u = png_get_error_ptr(png);
    err_set(u->e, ERR_DATA_FORMAT, u->where, "the PNG file cannot be decoded (%.100s); save it again", text);
    png_longjmp(png, 1);
}

static void be_silent(png_structp png, png_const_charp text) { (void)png, (void)text; }

static void get_bytes(png_structp png, png_bytep to, size_t n)
{
    struct unpng *u = png_get_io_ptr(png);
    if (n > u->n)
        png_error(png, "it is cut off");
    memcpy(to, u->p, n);
    u->p += n;
    u->n -= n;
}

/* Texts and colour profiles are compressed too, and nobody here reads them. */
static void limits(png_structp png)
{
    static const png_byte skipped[] = "iCCP\0zTXt\0iTXt\0tEXt\0sPLT\0hIST";
    png_set_user_limits(png, PICTURE_MAX_SIDE, PICTURE_MAX_SIDE);
    png_set_chunk_malloc_max(png, CHUNK_MAX);
    png_set_chunk_cache_max(png, CHUNKS_MAX);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, skipped, 6);
}

static void to_rgb(png_structp png)
{
    png_set_palette_to_rgb(png);
    png_set_expand_gray_1_2_4_to_8(png);
    png_set_strip_16(png);
    png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
}

static void read_exif(png_structp png, png_infop info, struct unpng *u)
{
    png_uint_32 n = 0;
    png_bytep data = NULL;
    if (png_get_eXIf_1(png, info, &n, &data))
        u->exif = exif_orientation(data, n);
}

static bool decode(png_structp png, png_infop info, struct unpng *u)
{
    png_read_info(png, info);
    if (!picture_alloc(u->ret, png_get_image_width(png, info), png_get_image_height(png, info), u->where, u->e))
        return false;
    to_rgb(png);
    png_read_update_info(png, info);
    size_t stride = (size_t)u->ret->width * 3;
    if (png_get_rowbytes(png, info) != stride)
        return err_set(u->e, ERR_DATA_FORMAT, u->where, "the PNG file does not become RGB; save it as RGB");
    if (!(u->rows = calloc((size_t)u->ret->height, sizeof *u->rows)))
        return err_sys(u->e, u->where, "decode");
    for (int y = 0; y < u->ret->height; y++)
        u->rows[y] = u->ret->rgb + (size_t)y * stride;
    png_read_image(png, u->rows);
    png_read_end(png, info);
    read_exif(png, info, u);
    return true;
}

bool picture_unpng(const uint8_t *p, size_t n, const char *where, struct picture *ret, int *ret_exif, struct err *e)
{
    struct unpng u = { .p = p, .n = n, .where = where, .ret = ret, .exif = 1, .e = e };
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &u, fail, be_silent);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    volatile bool ok = false;
    if (!info)
        err_set(e, ERR_MEMORY, where, "no memory to decode the picture");
    else if (setjmp(png_jmpbuf(png)) == 0) {
        limits(png);
        png_set_read_fn(png, &u, get_bytes);
        ok = decode(png, info, &u);
    }
    if (png)
        png_destroy_read_struct(&png, info ? &info : NULL, NULL);
    free(u.rows);
    *ret_exif = u.exif;
    return ok;
}

/* ---- writing ---- */

static void put_bytes(png_structp png, png_bytep from, size_t n) { buf_add(png_get_io_ptr(png), from, n); }
static void flush(png_structp png) { (void)png; }

bool picture_png(const struct picture *p, struct buf *ret)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, be_silent);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    volatile bool ok = false;
    if (info && setjmp(png_jmpbuf(png)) == 0) {
        png_set_write_fn(png, ret, put_bytes, flush);
        png_set_IHDR(png, info, (png_uint_32)p->width, (png_uint_32)p->height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                     PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
        png_write_info(png, info);
        for (int y = 0; y < p->height; y++)
            png_write_row(png, p->rgb + (size_t)y * (size_t)p->width * 3);
        png_write_end(png, info);
        ok = !ret->bad;
    }
    if (png)
        png_destroy_write_struct(&png, info ? &info : NULL);
    return ok;
}
