/*
 * preprocess.h - preprocess.json of an image data set: from the pixels of a picture to what the model takes.  Private to core/data.
 *
 *     {"resize": 256, "interpolation": "bicubic", "crop": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
 *      "layout": "NCHW", "input": "pixel_values"}
 *
 *   resize         N: the shorter side becomes N, the longer one floor(longer * N / shorter); [height, width]: exactly; absent: as it is
 *   interpolation  "bicubic" (default) or "bilinear": Pillow's, to the byte
 *   crop           N or [height, width], from the middle: floor((side - crop) / 2) pixels are left out before it; absent: nothing
 *   mean, std      of each channel, of pixels in 0..1: (x / 255 - mean) / std in float32
 *   layout         "NCHW" (default) or "NHWC"
 *   input          the name of the model's input, by default "pixel_values"; a model with a single input takes any
 */
#ifndef CORE_DATA_PREPROCESS_H
#define CORE_DATA_PREPROCESS_H

#include "core/data/picture.h"

struct side_pair { int height, width; };     /* 0: absent; resize: width 0 means the shorter side */

struct preprocess {
    struct side_pair resize, crop;
    enum resample how;
    bool nhwc;
    char input[128];
    float value[3][256];                     /* what a pixel of each channel becomes */
};

/* ERR_DATA_FORMAT with the pointer of the member. */
bool preprocess_parse(const char *json, size_t n, struct preprocess *ret, struct err *e);

/* The picture as the model sees it, before mean and std.  ERR_DATA_SHAPE when it is smaller than the crop. */
bool preprocess_frame(const struct preprocess *p, const struct picture *from, const char *where, struct picture *ret, struct err *e);

/* Its numbers, in the layout: to[3 * height * width]. */
void preprocess_values(const struct preprocess *p, const struct picture *frame, float *to);

#endif
