/* One picture: resizing, and what is written and read back; what a file of one may not be is in test_picture_limits.c. */
#include "tests/unit/core/data_files.h"

#include "tests/unit/core/made_picture.h"

static struct picture transposed(const struct picture *p)
{
    struct picture to = made_picture(p->height, p->width);
    for (int y = 0; y < p->height; y++)
        for (int x = 0; x < p->width; x++)
            memcpy(to.rgb + (x * p->height + y) * 3, p->rgb + (y * p->width + x) * 3, 3);
    return to;
}

/* Columns are resized as rows are, whether the other side changes or not. */
static void one_side_is_resized_as_the_other(void **state)
{
    (void)state;
    for (int to = 5; to <= 40; to += 7)
        for (int how = RESAMPLE_BICUBIC; how <= RESAMPLE_BILINEAR; how++) {
            struct picture p = made_picture(19, 12), turned = transposed(&p), wide, high;
            struct err e = { 0 };
            assert_true(picture_resize(&p, to, 12, (enum resample)how, &wide, &e));
            assert_true(picture_resize(&turned, 12, to, (enum resample)how, &high, &e));
            assert_int_equal(wide.width, to);
            assert_int_equal(high.height, to);
            struct picture back = transposed(&high);
            assert_memory_equal(wide.rgb, back.rgb, (size_t)to * 12 * 3);
            picture_release(&p);
            picture_release(&turned);
            picture_release(&wide);
            picture_release(&high);
            picture_release(&back);
        }
}

static void a_picture_written_as_png_is_read_back(void **state)
{
    (void)state;
    struct picture p = made_picture(23, 11), back;
    struct buf b = BYTES;
    struct err e = { 0 };
    assert_true(picture_png(&p, &b));
    assert_true(picture_decode(b.p, b.n, "a.png", &back, &e));
    assert_int_equal(back.width, 23);
    assert_int_equal(back.height, 11);
    assert_memory_equal(back.rgb, p.rgb, 23 * 11 * 3);
    picture_release(&back);
    buf_release(&b);
    picture_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_side_is_resized_as_the_other),
        cmocka_unit_test(a_picture_written_as_png_is_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
