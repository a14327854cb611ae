/* made_picture.h - pictures whose pixels tell where they are.  Included after cmocka.h. */
#ifndef TESTS_UNIT_CORE_MADE_PICTURE_H
#define TESTS_UNIT_CORE_MADE_PICTURE_H

#include "core/data/picture.h"

static inline struct picture made_picture(int width, int height)
{
    struct picture p;
    struct err e = { 0 };
    assert_true(picture_alloc(&p, (uint64_t)width, (uint64_t)height, "made", &e));
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                p.rgb[(y * width + x) * 3 + c] = (uint8_t)(x * x * 7 + y * 13 + c * 50 + x * y);
    return p;
}

#endif
