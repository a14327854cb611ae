/*
 * dataset.h - calibration and evaluation samples: arrays named as the model's inputs, first axis = samples.
 *
 * Formats: .npz (stored or deflated .npy members), .npy, .safetensors, and a .zip (or a folder) of JPEG and PNG pictures with
 * preprocess.json and, where known, labels.csv (preprocess.h says what they become).  A stranger's bytes:
 * nothing is evaluated, no pickle is read, sizes are checked before memory is
 * taken, and the sum of what an archive unpacks to is bounded.
 */
#ifndef CORE_DATA_DATASET_H
#define CORE_DATA_DATASET_H

#include "core/base/arena.h"
#include "core/base/hash.h"
#include "core/base/io.h"
#include "core/base/json.h"
#include "core/base/tensor.h"

enum { DATASET_MAX_ARRAYS = 256, DATASET_MAX_NPY_HEADER = 10000 };

struct array {
    const char *name;                  /* "pixel_values" (the .npz member's name without ".npy") */
    struct tensor t;                   /* little-endian, C order; data borrowed from the file or in the arena */
    bool paged;                        /* a file is behind the data: array_rest() */
};

struct preview {
    const char *file;
    int width, height;
    uint8_t *rgb;                      /* [height][width][3] */
};

struct dataset {
    struct array *arrays;
    size_t n;
    const char *format;                /* "npz", "npy", "safetensors", "images" */
    struct preview *previews;          /* the first few pictures as the model sees them, small; of images only */
    size_t n_previews;
};

/*
 * Opens a data file that is mapped at `file` (which must outlive the dataset).
 * Stored members of an npz are used in place when aligned for their type; others are unpacked
 * into the arena, whose limit bounds them (a paged one keeps them on disk).  No more than a piece of a large array is in memory.  Fortran-order and big-endian arrays are refused with
 * the remedy (np.ascontiguousarray, astype).
 * Errors: ERR_DATA_FORMAT, ERR_DATA_LIMIT, ERR_DATA_DTYPE, ERR_MEMORY; `where` names the member.
 */
bool dataset_open(struct arena *mem, const struct mapping *file, const char *name,
                  struct dataset *ret, struct err *e);

/*
 * The same for a folder of pictures, which a person names on the command line.  *ret_digest is of the names and bytes of what was
 * read.  No link in it is followed.
 */
bool dataset_open_folder(struct arena *mem, const char *path, struct dataset *ret, uint8_t ret_digest[HASH_SIZE], struct err *e);

/*
 * What a person wants to see of it: {"format", "samples", "arrays": [{"name", "dtype", "shape", "min", "max", "mean",
 * "nan_count", "inf_count"}], "has_labels"}, of pictures also
 * "previews": [{"file", "width", "height", "png" in base64}].  `samples` is null where the arrays' first axes differ; min, max and
 * mean leave out what is not finite and are null where nothing is left.  The caller decrefs; NULL without memory.
 */
json_t *dataset_describe(const struct dataset *d);

/* The n elements from `first` on will not be read soon: they leave memory where a file is behind them. */
void array_rest(const struct array *a, int64_t first, int64_t n);

/* The array of that name, or NULL. */
const struct array *dataset_find(const struct dataset *d, const char *name);

/* What a model input wants, as the check needs it. */
struct input_spec {
    const char *name;
    enum dtype dtype;
    struct shape shape;                /* dim < 0: any length; equal negative numbers must agree over all inputs */
};

/* Samples ready to run: for each input one array, all with the same number of rows on axis 0. */
struct samples {
    size_t n_inputs;
    const struct array **inputs;       /* [n_inputs], in the order of the specs */
    int64_t count;                     /* samples */
    const int64_t *labels;             /* [count] from the array "labels" (any integer type, converted), or NULL; in the arena or the file */
    /* Padding, which samples_padding() tells. */
    int64_t positions;                 /* of axis `row_axis` of input `row_input`: what is padding is told of these; 0: nothing tells */
    int row_input, row_axis;
    const uint8_t *real;               /* [count][positions]: 0 is padding; NULL: nothing is */
    const int64_t *lengths;            /* [count]: positions up to the last real one, where samples are to be cut to them; or NULL */
};

/*
 * Checks a dataset against a model's inputs: names, types, ranks, dimensions,
 * finite values (every element of float inputs).  Integers of any width are converted to the
 * int32 or int64 the model wants where every value fits, float64, float16 and bfloat16 to float32;
 * anything else is refused.  The one array of a .npy stands for the only input of a model.
 * Arrays that are no input of the model are left alone.
 * A model whose batch dimension is a number b > 0 takes its samples b at a time: count must be a multiple of b.
 * Errors: ERR_DATA_SCHEMA (names: says which are expected and which were found), ERR_DATA_DTYPE,
 * ERR_DATA_SHAPE (suspects NHWC where that would fit), ERR_DATA_VALUES (NaN/Inf: array and flat index).
 */
bool dataset_samples(struct arena *mem, const struct dataset *d, const struct input_spec *specs, size_t n_specs,
                     struct samples *ret, struct err *e);

/*
 * Which positions are padding: the zeros of an input attention_mask or input_mask [samples, positions] of ones and zeros, and what
 * lies behind the end where an array "lengths" [samples] of integers is there (and no input of the model).  Without either: none.
 * Errors: ERR_DATA_DTYPE, ERR_DATA_SHAPE, ERR_DATA_VALUES of "lengths"; ERR_DATA_SCHEMA where it is not known what they count.
 */
bool samples_padding(struct arena *mem, const struct dataset *d, const struct input_spec *specs, size_t n_specs, struct samples *io,
                     struct err *e);

/* Sets io->lengths where there is padding, for who runs samples for their statistics.  ERR_DATA_VALUES: one is nothing but padding. */
bool samples_cut(struct arena *mem, struct samples *io, struct err *e);

/* dataset_samples() for a dataset whose arrays have no data: names, types and shapes are checked; ret's arrays have none either. */
bool dataset_shapes(struct arena *mem, const struct dataset *d, const struct input_spec *specs, size_t n_specs,
                    struct samples *ret, struct err *e);

/* Writing, for `repquant run --outputs`: an uncompressed .npz, deterministic to the byte. */
bool npz_write(const char *path, const struct array *arrays, size_t n, struct err *e);

#endif
