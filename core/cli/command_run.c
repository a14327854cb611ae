/* `repquant run`: a model on arrays, with our engine. */
#include "core/cli/cli.h"
#include "core/cli/load.h"
#include "core/exec/run.h"
#include "core/kernel/kernel.h"

#include <string.h>

#define SYNOPSIS "run MODEL --inputs X.npz --outputs Y.npz [--threads N] [--batch N]"

struct collect {
    const struct chunks *c;
    const struct graph *g;
    struct array *outputs;         /* [n_outputs], for all samples */
};

static bool make_outputs(struct collect *to, struct arena *mem, struct err *e)
{
    const struct graph *g = to->g;
    const struct plan *p = to->c->chunk[0].plan;
    to->outputs = arena_array(mem, (uint64_t)g->n_outputs, sizeof *to->outputs, e);
    for (int i = 0; to->outputs && i < g->n_outputs; i++) {
        const struct value *v = &g->values[g->outputs[i]];
        struct tensor t = { v->dtype, p->facts.shape[g->outputs[i]], NULL };
        uint64_t bytes;
        if (t.shape.rank == 0 || t.shape.dim[0] != to->c->chunk[0].rows)
            return err_set(e, ERR_MODEL_SHAPE, v->name, "the first axis of this output is not the batch, so its rows cannot be told apart");
        t.shape.dim[0] = to->c->count;
        if (!tensor_size(t.dtype, &t.shape, v->name, NULL, &bytes, e) || !(t.data = arena_alloc(mem, bytes, e)))
            return false;
        to->outputs[i] = (struct array){ .name = v->name, .t = t };
    }
    return to->outputs != NULL;
}

static bool collect_chunk(void *arg, int chunk, int thread, struct frame *f, struct err *e)
{
    struct collect *to = arg;
    const struct chunk *c = &to->c->chunk[chunk];
    (void)thread;
    (void)e;
    for (int i = 0; i < to->g->n_outputs; i++) {
        struct tensor *t = &to->outputs[i].t;
        size_t row = (size_t)shape_count(&t->shape, 1, t->shape.rank) * (size_t)dtype_bits(t->dtype) / 8;
        if (row)
            memcpy((char *)t->data + (size_t)c->first * row, f->t[to->g->outputs[i]].data, (size_t)c->rows * row);
    }
    return true;
}

static bool run(const char *path, const char *inputs, const char *outputs, int threads, int64_t batch, struct err *e)
{
    struct loaded_model m = { 0 };
    struct loaded_data d = { 0 };
    struct chunks c;
    struct pool *pool = NULL;
    struct arena *mem = arena_new(UINT64_MAX / 2);
    struct collect to = { .c = &c };
    struct file_ref file = { inputs, inputs, -1 };
    bool ok = (mem || err_set(e, ERR_MEMORY, "", "no memory")) && blas_init(e) && load_model_path(&m, path, e)
           && load_samples(&d, &file, m.g, cli_scratch_dir(), e)
           && mapping_spared(outputs, m.maps, m.n_maps, e) && mapping_spared(outputs, &d.map, 1, e)
           && chunks_new(&c, m.g, &m.how, mem, &d.samples, batch, 0, e) && (pool = pool_new(threads, e));
    to.g = m.g;
    ok = ok && make_outputs(&to, mem, e) && chunks_run(&c, &m.how, pool, collect_chunk, &to, e)
      && npz_write(outputs, to.outputs, (size_t)m.g->n_outputs, e);
    pool_free(pool);
    arena_free(mem);
    loaded_data_release(&d);
    loaded_model_release(&m);
    return ok;
}

int command_run(int argc, char **argv)
{
    const char *inputs = NULL, *outputs = NULL, *model;
    int64_t threads = 0, batch = 0;
    const struct cli_option options[] = {
        { "inputs", CLI_STRING, &inputs, 0, 0, true, "npz with one array for each model input, samples on axis 0" },
        { "outputs", CLI_STRING, &outputs, 0, 0, true, "npz to write, one array for each model output" },
        { "threads", CLI_INT, &threads, 1, 64, false, "worker threads (default: the processors at hand)" },
        { "batch", CLI_INT, &batch, 1, 1 << 20, false, "samples computed together (default: by input size)" },
    };
    struct err e = { 0 };
    int code = 0;
    if (!cli_parse(SYNOPSIS, options, sizeof options / sizeof options[0], argc, argv, &model, 1, &code))
        return code;
    return run(model, inputs, outputs, cli_threads(threads), batch, &e) ? 0 : cli_fail(&e);
}
