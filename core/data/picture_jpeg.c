/* picture_jpeg.c - JPEG by libjpeg-turbo: its slow integer transform and its smooth chroma, as Pillow uses it. */
#include "core/data/picture.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

/* A progressive file may paint the picture again and again. */
enum { MAX_SCANS = 100, MAX_MEMORY = 256 << 20 };

struct jpeg {
    struct jpeg_decompress_struct c;
    struct jpeg_error_mgr mgr;
    struct jpeg_progress_mgr progress;
    jmp_buf out;
    const char *where;
    struct picture *ret;
    int exif;
    struct err *e;
};

static void fail(j_common_ptr c)
{
    struct jpeg *j = c->client_data;
    char text[JMSG_LENGTH_MAX];
    c->err->format_message(c, text);
    err_set(j->e, ERR_DATA_FORMAT, j->where, "the JPEG file cannot be decoded (%.100s); save it again", text);
    longjmp(j->out, 1);
}

/* Many real files have a stray byte somewhere, and every reader passes over it.  A picture that is cut off is none. */
static void complain(j_common_ptr c, int level)
{
    if (level < 0 && (c->err->msg_code == JWRN_JPEG_EOF || c->err->msg_code == JWRN_HIT_MARKER))
        fail(c);
}

static void be_silent(j_common_ptr c) { (void)c; }

static void watch(j_common_ptr c)
{
    struct jpeg *j = c->client_data;
    if (j->c.input_scan_number <= MAX_SCANS)
        return;
    err_set(j->e, ERR_DATA_LIMIT, j->where, "the JPEG file has more than %d scans; save it again", MAX_SCANS);
    longjmp(j->out, 1);
}

static void read_exif(struct jpeg *j)
{
    for (jpeg_saved_marker_ptr m = j->c.marker_list; m; m = m->next)
        if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && memcmp(m->data, "Exif\0\0", 6) == 0) {
            j->exif = exif_orientation(m->data + 6, m->data_length - 6);
            return;
        }
}

static bool decode(struct jpeg *j)
{
    struct jpeg_decompress_struct *c = &j->c;
    jpeg_read_header(c, TRUE);
    read_exif(j);
    if (c->num_components != 1 && c->num_components != 3)
        return err_set(j->e, ERR_DATA_FORMAT, j->where, "the picture has %d colour components (CMYK?); save it as RGB", c->num_components);
    if (!picture_alloc(j->ret, c->image_width, c->image_height, j->where, j->e))
        return false;
    c->out_color_space = JCS_RGB;
    c->dct_method = JDCT_ISLOW;
    jpeg_start_decompress(c);
    while (c->output_scanline < c->output_height) {
        JSAMPROW row = j->ret->rgb + (size_t)c->output_scanline * c->output_width * 3;
        jpeg_read_scanlines(c, &row, 1);
    }
    jpeg_finish_decompress(c);
    return true;
}

bool picture_jpeg(const uint8_t *p, size_t n, const char *where, struct picture *ret, int *ret_exif, struct err *e)
{
    struct jpeg j = { .where = where, .ret = ret, .exif = 1, .e = e };
    volatile bool ok = false;
    j.c.err = jpeg_std_error(&j.mgr);
    j.c.client_data = &j;
    j.mgr.error_exit = fail;
    j.mgr.emit_message = complain;
    j.mgr.output_message = be_silent;
    if (setjmp(j.out) == 0) {
        jpeg_create_decompress(&j.c);       /* keeps err and client_data */
        j.progress.progress_monitor = watch;
        j.c.progress = &j.progress;
        j.c.mem->max_memory_to_use = MAX_MEMORY;
        jpeg_save_markers(&j.c, JPEG_APP0 + 1, 0xffff);
        jpeg_mem_src(&j.c, p, (unsigned long)n);
        ok = decode(&j);
    }
    jpeg_destroy_decompress(&j.c);
    *ret_exif = j.exif;
    return ok;
}
