#include "core/cli/load.h"

#include "core/exec/op.h"
#include "core/exec/run.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A model's structures are small beside its weights, which stay mapped; folding makes copies. */
#define MODEL_MEMORY ((uint64_t)8 << 30)

static bool map_file(struct mapping *m, const struct file_ref *f, struct err *e)
{
    return f->fd >= 0 ? mapping_fd(m, f->fd, f->name, e) : mapping_path(m, f->path, e);
}

/* A file is hashed before it is used, and may be larger than memory. */
static void hash_mapping(struct hash *h, const struct mapping *m)
{
    enum { PIECE = 1 << 20 };
    for (uint64_t at = 0; at < m->size; at += PIECE) {
        uint64_t n = m->size - at < PIECE ? m->size - at : PIECE;
        hash_add(h, m->data + at, (size_t)n);
        mapping_rest(m->data + at, n);
    }
}

void loaded_model_digest(const struct loaded_model *m, uint8_t ret[HASH_SIZE])
{
    struct hash h;
    hash_init(&h);
    for (size_t i = 0; i < m->n_maps; i++) {
        if (m->n_maps > 1)
            hash_add(&h, m->names[i], strlen(m->names[i]) + 1);
        hash_mapping(&h, &m->maps[i]);
    }
    hash_end(&h, ret);
}

bool load_model(struct loaded_model *m, const struct file_ref *files, size_t n, struct err *e)
{
    struct onnx_file views[ONNX_MAX_FILES];
    *m = (struct loaded_model){ .mem = arena_new(MODEL_MEMORY) };
    if (!m->mem)
        return err_set(e, ERR_MEMORY, "", "no memory for a model");
    if (n > ONNX_MAX_FILES)
        return err_set(e, ERR_MODEL_LIMIT, files[0].name, "more than %d files; merge the external data", ONNX_MAX_FILES);
    for (size_t i = 0; i < n; i++) {
        if (!map_file(&m->maps[i], &files[i], e))
            return false;
        m->n_maps++;
        m->bytes += m->maps[i].size;
        if (!(m->names[i] = arena_strndup(m->mem, files[i].name, strlen(files[i].name), e)))
            return false;
        views[i] = (struct onnx_file){ files[i].name, m->maps[i].data, m->maps[i].size, true };
    }
    bool ok = onnx_read(m->mem, views, n, &m->onnx, e)
           && (m->g = graph_load(m->mem, &m->onnx, op_eval, e))
           && lowering_from_qdq(&m->how, m->g, m->mem, e);
    m->how.tiled = true;
    return ok;
}

/* Files beside the model that may hold its external data: regular, not hidden, not models themselves. */
static size_t siblings(const char *path, char (*names)[256], char (*paths)[4096], size_t room)
{
    char dir[4096];
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t n = 0;
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    DIR *d = opendir(dir[0] ? dir : "/");
    for (struct dirent *at; d && n < room && (at = readdir(d)); ) {
        struct stat st;
        size_t len = strlen(at->d_name);
        bool model = len > 5 && strcmp(at->d_name + len - 5, ".onnx") == 0;
        if (at->d_name[0] == '.' || model || strcmp(at->d_name, base) == 0
            || (size_t)snprintf(paths[n], sizeof paths[n], "%s/%s", dir, at->d_name) >= sizeof paths[n]
            || stat(paths[n], &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
            continue;
        snprintf(names[n++], sizeof names[0], "%s", at->d_name);
    }
    if (d)
        closedir(d);
    return n;
}

/* Of the files beside the model those stay that it names: what else lies there is none of it. */
static void leave_strangers(struct loaded_model *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_maps; i++) {
        if (!m->onnx.uses[i]) {
            m->bytes -= m->maps[i].size;
            mapping_release(&m->maps[i]);
            continue;
        }
        m->maps[n] = m->maps[i];
        m->names[n++] = m->names[i];
    }
    m->n_maps = n;
}

bool load_model_path(struct loaded_model *m, const char *path, struct err *e)
{
    static char names[ONNX_MAX_FILES][256], paths[ONNX_MAX_FILES][4096];
    struct file_ref files[ONNX_MAX_FILES] = { { path, path, -1 } };
    struct err first = { 0 };
    if (load_model(m, files, 1, &first))
        return true;
    if (first.code == ERR_MODEL_EXTERNAL) {
        loaded_model_release(m);
        size_t n = siblings(path, names, paths, ONNX_MAX_FILES - 1);
        for (size_t i = 0; i < n; i++)
            files[i + 1] = (struct file_ref){ names[i], paths[i], -1 };
        first = (struct err){ 0 };
        if (load_model(m, files, n + 1, &first)) {
            leave_strangers(m);
            return true;
        }
    }
    return err_set(e, first.code, first.where, "%s", first.text);
}

void loaded_model_release(struct loaded_model *m)
{
    arena_free(m->mem);
    for (size_t i = 0; i < m->n_maps; i++)
        mapping_release(&m->maps[i]);
    *m = (struct loaded_model){ 0 };
}

/* Only a person names a folder: a job's inputs are descriptors of files. */
static bool is_folder(const struct file_ref *f)
{
    struct stat st;
    return f->fd < 0 && stat(f->path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool load_dataset(struct loaded_data *d, const struct file_ref *file, uint64_t memory, const char *dir, struct err *e)
{
    struct hash h;
    *d = (struct loaded_data){ .mem = arena_new_paged(memory, dir) };
    if (!d->mem)
        return err_set(e, ERR_MEMORY, file->name, "no memory for a data set");
    if (is_folder(file))
        return dataset_open_folder(d->mem, file->path, &d->set, d->digest, e);
    if (!map_file(&d->map, file, e))
        return false;
    hash_init(&h);
    hash_mapping(&h, &d->map);
    hash_end(&h, d->digest);
    return dataset_open(d->mem, &d->map, file->name, &d->set, e);
}

bool find_inputs(struct loaded_data *d, const struct graph *g, struct err *e)
{
    struct input_spec *specs;
    return run_input_specs(g, d->mem, &specs, e)
        && dataset_samples(d->mem, &d->set, specs, (size_t)g->n_inputs, &d->samples, e)
        && samples_padding(d->mem, &d->set, specs, (size_t)g->n_inputs, &d->samples, e);
}

bool load_samples(struct loaded_data *d, const struct file_ref *file, const struct graph *g, const char *dir, struct err *e)
{
    return load_dataset(d, file, LOAD_NO_LIMIT, dir, e) && find_inputs(d, g, e);
}

void loaded_data_release(struct loaded_data *d)
{
    arena_free(d->mem);
    mapping_release(&d->map);
    *d = (struct loaded_data){ 0 };
}
