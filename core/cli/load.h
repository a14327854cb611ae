/*
 * load.h - models and data from files or descriptors, ready to run.
 */
#ifndef CORE_CLI_LOAD_H
#define CORE_CLI_LOAD_H

#include "core/base/hash.h"
#include "core/base/io.h"
#include "core/data/dataset.h"
#include "core/exec/lowering.h"
#include "core/graph/graph.h"
#include "core/onnx/onnx.h"

struct file_ref {
    const char *name;                  /* how messages and the model call it */
    const char *path;                  /* opened if fd < 0 */
    int fd;
};

struct loaded_model {
    struct arena *mem;
    struct mapping maps[ONNX_MAX_FILES];
    const char *names[ONNX_MAX_FILES];     /* of the files */
    size_t n_maps;
    struct onnx_model onnx;
    struct graph *g;
    struct lowering how;               /* quantized forms recognised */
    uint64_t bytes;                    /* of all files */
};

/* files[0] is the model, the rest its external data.  Release also after a failure. */
bool load_model(struct loaded_model *m, const struct file_ref *files, size_t n, struct err *e);
/* A model by path; external data from files beside it, by the names the model uses. */
bool load_model_path(struct loaded_model *m, const char *path, struct err *e);
void loaded_model_release(struct loaded_model *m);
/* SHA-256 of the file; of names and contents where there are several.  Reads all of it, but keeps no page. */
void loaded_model_digest(const struct loaded_model *m, uint8_t ret[HASH_SIZE]);

struct loaded_data {
    struct arena *mem;
    struct mapping map;
    struct dataset set;
    struct samples samples;            /* only after find_inputs() */
    uint8_t digest[HASH_SIZE];
};

/* `limit` bounds what is unpacked, which lies in scratch files in `dir` (must outlive the data); LOAD_NO_LIMIT: the disk does. */
#define LOAD_NO_LIMIT (UINT64_MAX / 2)
bool load_dataset(struct loaded_data *d, const struct file_ref *file, uint64_t limit, const char *dir, struct err *e);
/* The model's inputs among the data's arrays, checked: fills d->samples. */
bool find_inputs(struct loaded_data *d, const struct graph *g, struct err *e);
/* Both, without a limit. */
bool load_samples(struct loaded_data *d, const struct file_ref *file, const struct graph *g, const char *dir, struct err *e);
void loaded_data_release(struct loaded_data *d);

#endif
