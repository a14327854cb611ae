/*
 * dataset.h - calibration and evaluation samples: arrays named as the model's inputs, first axis = samples.
 *
 * Formats: .npz (stored or deflated .npy members), .npy, .safetensors.  A stranger's bytes:
 * nothing is evaluated, no pickle is read, sizes are checked before memory is
 * taken, and the sum of what an archive unpacks to is bounded.
 */
#ifndef CORE_DATA_DATASET_H
#define CORE_DATA_DATASET_H

#include "core/base/arena.h"
#include "core/base/io.h"
#include "core/base/tensor.h"

enum { DATASET_MAX_ARRAYS = 256, DATASET_MAX_NPY_HEADER = 10000 };

struct array {
    const char *name;                  /* "pixel_values" (the .npz member's name without ".npy") */
    struct tensor t;                   /* little-endian, C order; data borrowed from the file or in the arena */
};

struct dataset {
    struct array *arrays;
    size_t n;
    const char *format;                /* "npz", "npy", "safetensors" */
};

/*
 * Opens a data file that is mapped at `file` (which must outlive the dataset).
 * Stored members of an npz are used in place when aligned for their type; others are unpacked
 * into the arena, whose limit bounds them.  Fortran-order and big-endian arrays are refused with
 * the remedy (np.ascontiguousarray, astype).
 * Errors: ERR_DATA_FORMAT, ERR_DATA_LIMIT, ERR_DATA_DTYPE, ERR_MEMORY; `where` names the member.
 */
bool dataset_open(struct arena *mem, const struct mapping *file, const char *name,
                  struct dataset *ret, struct err *e);

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
    const int64_t *labels;             /* [count] from the array "labels" (any integer type, converted), or NULL */
};

/*
 * Checks a dataset against a model's inputs: names, types, ranks, dimensions,
 * finite values (every element of float inputs).  int32/int64 are
 * converted to what the model wants where the values fit; float64 -> float32 likewise, with no warning lost.
 * A model whose batch dimension is a number b > 0 takes its samples b at a time: count must be a multiple of b.
 * Errors: ERR_DATA_SCHEMA (names: says which are expected and which were found), ERR_DATA_DTYPE,
 * ERR_DATA_SHAPE (suspects NHWC where that would fit), ERR_DATA_VALUES (NaN/Inf: array and flat index).
 */
bool dataset_samples(struct arena *mem, const struct dataset *d, const struct input_spec *specs, size_t n_specs,
                     struct samples *ret, struct err *e);

/* Writing, for `repquant run --outputs`: an uncompressed .npz, deterministic to the byte. */
bool npz_write(const char *path, const struct array *arrays, size_t n, struct err *e);

#endif
