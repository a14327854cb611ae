/*
 * foresee.c - the plan follows from roles and recipe, the memory from shapes; the time from one float pass over one
 * sample, which is run, so that the machine as it is now is in it.
 */
#include "core/cli/foresee.h"

#include "core/artifact/artifact.h"
#include "core/base/clock.h"
#include "core/cli/advice.h"
#include "core/cli/made_samples.h"
#include "core/cli/pipeline.h"
#include "core/kernel/kernel.h"
#include "core/method/method.h"
#include "core/sweep/forecast.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct state {
    const struct foresee *f;
    struct arena *mem;
    struct loaded_model model;
    struct roles roles;
    struct samples calibration, evaluation;    /* shapes alone */
    struct sweep_task task;
    struct sweep sweep;                        /* its layers and sites; nothing is decided */
    struct forecast cast;
    double pass_seconds;                       /* processor seconds of a float pass over one sample */
    double clock_ratio;                        /* seconds by the clock for one of these, all threads at work */
    json_t *problems;
};

/* ---- problems ---- */

static void add_problem(struct state *s, const char *level, const char *code, const char *pointer, const char *where, const char *text)
{
    json_array_append_new(s->problems, json_pack("{s:s,s:s,s:s,s:s,s:s}", "level", level, "code", code, "pointer", pointer, "where", where, "detail", text));
}

/* What the input is at fault for becomes a problem; what the environment is does not. */
static bool blocked(struct state *s, const char *pointer, const struct err *why, struct err *e)
{
    if (err_exit_code(why->code) != 1)
        return err_set(e, why->code, why->where, "%s", why->text);
    add_problem(s, "error", err_slug(why->code), pointer, why->where, why->text);
    return true;
}

/* ---- the data set's shapes ---- */

static bool read_shape(const json_t *a, struct shape *ret)
{
    size_t rank = json_array_size(a);
    if (!json_is_array(a) || rank > TENSOR_MAX_RANK)
        return false;
    ret->rank = (int)rank;
    for (size_t i = 0; i < rank; i++) {
        ret->dim[i] = json_integer_value(json_array_get(a, i));
        if (ret->dim[i] < 0 || ret->dim[i] > TENSOR_MAX_DIM)
            return false;
    }
    return true;
}

static bool read_array(const json_t *row, struct array *ret)
{
    const char *name = json_string_value(json_object_get(row, "name")), *type = json_string_value(json_object_get(row, "dtype"));
    *ret = (struct array){ .name = name, .t.dtype = type ? dtype_from_name(type) : DT_NONE };
    return name && ret->t.dtype != DT_NONE && read_shape(json_object_get(row, "shape"), &ret->t.shape);
}

static bool read_inventory(struct state *s, const json_t *inventory, struct samples *ret, struct err *e)
{
    const json_t *rows = json_object_get(inventory, "arrays");
    struct dataset d = { .format = json_string_value(json_object_get(inventory, "format")), .n = json_array_size(rows) };
    struct input_spec *specs;
    if (!d.format || d.n > DATASET_MAX_ARRAYS)
        return err_set(e, ERR_DATA_FORMAT, "inventory", "the data set's description is not complete; register it again");
    d.arrays = arena_array(s->mem, d.n + 1, sizeof *d.arrays, e);
    for (size_t i = 0; d.arrays && i < d.n; i++)
        if (!read_array(json_array_get(rows, i), &d.arrays[i]))
            return err_set(e, ERR_DATA_FORMAT, "inventory", "the data set's description is not complete; register it again");
    return d.arrays && run_input_specs(s->model.g, s->mem, &specs, e)
        && dataset_shapes(s->mem, &d, specs, (size_t)s->model.g->n_inputs, ret, e);
}

/* ---- one float pass ---- */

static bool nothing(void *arg, int chunk, int thread, struct frame *f, struct err *e)
{
    (void)arg, (void)chunk, (void)thread, (void)f, (void)e;
    return true;
}

/* Ones are pixels, token ids and masks that every model takes. */
static void fill_ones(struct tensor *t)
{
    int64_t n = shape_elements(&t->shape);
    for (int64_t i = 0; i < n; i++)
        switch (t->dtype) {
        case DT_F32: ((float *)t->data)[i] = 1; break;
        case DT_I64: ((int64_t *)t->data)[i] = 1; break;
        case DT_I32: ((int32_t *)t->data)[i] = 1; break;
        default: break;                /* zeros */
        }
}

/* The smallest batch of ones the model takes, once for each thread. */
static bool few_ones(struct state *s, struct samples *ret, struct err *e)
{
    const struct graph *g = s->model.g;
    *ret = (struct samples){ .n_inputs = s->calibration.n_inputs, .count = 1 };
    ret->inputs = arena_array(s->mem, ret->n_inputs, sizeof *ret->inputs, e);
    for (size_t i = 0; ret->inputs && i < ret->n_inputs; i++) {
        uint64_t bytes;
        struct array *a = arena_alloc(s->mem, sizeof *a, e);
        if (!a)
            return false;
        *a = *s->calibration.inputs[i];
        a->t.shape.dim[0] = g->values[g->inputs[i]].shape.rank > 0 && g->values[g->inputs[i]].shape.dim[0] > 0
                          ? g->values[g->inputs[i]].shape.dim[0] : 1;
        ret->count = a->t.shape.dim[0] *= s->f->threads;
        if (!tensor_size(a->t.dtype, &a->t.shape, a->name, NULL, &bytes, e) || !(a->t.data = arena_alloc(s->mem, bytes, e)))
            return false;
        fill_ones(&a->t);
        ret->inputs[i] = a;
    }
    return ret->inputs != NULL;
}

static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Runs timed together, as clocks of processor time may be coarse. */
struct timing { double cpu; int64_t wall; int n; };

static double each(const struct timing *t) { return t->n ? fmax(t->cpu, 1e-6) / t->n : INFINITY; }

/*
 * The quickest hundredth of a second out of three tenths: what else goes on (a library's threads that wait for work, a machine that wakes)
 * only ever adds.  The first run, in which memory is new, does not count unless it took long.
 */
static bool time_runs(struct state *s, const struct chunks *c, const struct lowering *plain, struct pool *pool, struct err *e)
{
    enum { RUNS = 1000 };
    const double enough = 0.3, some = 0.01, slow = 1;
    struct timing now = { 0 }, best = { 0 };
    double all = 0;
    for (int i = 0; best.n + now.n == 0 || (i < RUNS && all < enough); i++) {
        double before = processor_seconds();
        int64_t begun = clock_mono_us();
        if (!chunks_run(c, plain, pool, nothing, NULL, e))
            return false;
        double took = processor_seconds() - before;
        if (i == 0 && took < slow)
            continue;
        all += took;
        now = (struct timing){ now.cpu + took, now.wall + clock_mono_us() - begun, now.n + 1 };
        if (now.cpu < some)
            continue;
        best = each(&now) < each(&best) ? now : best;
        now = (struct timing){ 0 };
    }
    best = best.n ? best : now;
    s->pass_seconds = each(&best) / (double)c->count;
    s->clock_ratio = best.cpu > 0 ? fmin(20, fmax(1.0 / s->f->threads, 1e-6 * (double)best.wall / best.cpu)) : 1;
    return true;
}

/* Of a model that would take long: products of one size stand for it. */
static bool time_products(struct state *s, double flops, struct err *e)
{
    enum { N = 512 };
    const double enough = 0.1, slower = 1.5;           /* a pass is not products alone */
    float *x = arena_array(s->mem, 3 * N * N, sizeof *x, e);
    double begun = processor_seconds(), cpu;
    int64_t wall = clock_mono_us();
    int n = 0;
    if (!x)
        return false;
    do {
        gemm(false, false, N, N, N, x, N, x + N * N, N, false, x + 2 * N * N, N);
        cpu = processor_seconds() - begun;
        n++;
    } while (cpu < enough);
    s->pass_seconds = slower * flops / (2.0 * N * N * N * n / cpu);
    s->clock_ratio = 1e-6 * (double)(clock_mono_us() - wall) / cpu / s->f->threads;
    return true;
}

static bool time_pass(struct state *s, struct err *e)
{
    const double large = 1e11;
    struct lowering plain;
    struct samples some;
    struct chunks c;
    double flops = s->cast.pass_flops / (double)s->cast.samples;
    if (flops > large)
        return time_products(s, flops, e);
    struct pool *pool = pool_new(s->f->threads, e);
    bool ok = pool && lowering_new(&plain, s->model.g, s->mem, e) && few_ones(s, &some, e)
           && chunks_new(&c, s->model.g, &plain, s->mem, &some, some.count / s->f->threads, 0, e) && time_runs(s, &c, &plain, pool, e);
    pool_free(pool);
    return ok;
}

/* ---- from sizes to bytes and seconds; the factors are fits to measured jobs, tests/api/test_estimates.py looks after them ---- */

/* Not while weights are rebuilt. */
static double lesson_bytes(const struct state *s)
{
    return 0.8 * ((double)s->cast.lesson + fmin(s->f->threads, s->cast.tapes) * (double)s->cast.tape);
}

/* Whatever the samples: the program, frames, weights as codes and the few that are floats at a time, what rebuilding takes. */
static double fixed_bytes(const struct state *s)
{
    const struct forecast *c = &s->cast;
    const double program = 17e6, touched = 24e6 + (double)c->weights, threads = s->f->threads;
    return program + 1.2 * threads * (double)c->frame + (double)c->codes + 2 * (double)c->weights
         + fmin((double)s->model.bytes, touched)
         + fmax(1.15 * ((double)c->moments + threads * (double)c->member + (double)c->rebuild), lesson_bytes(s));
}

/* Held activations lie in the heap, with holes. */
static double held_bytes(const struct state *s) { return 1.2 * fmin((double)s->cast.held, (double)s->f->memory); }

/* Samples of a float pass that the sweep and what follows it are worth. */
static double passes_of(const struct state *s)
{
    const struct method *m = s->task.method;
    double n = (double)s->cast.samples, few = fmin(n, 8), walks = m->folds_last ? 2 : 1;
    double absorbed = m->absorbs ? fmin(n, 11) : 0, judged = 2 * (double)s->evaluation.count;
    return 3.3 * n * walks + 2 * few + absorbed + judged;
}

/*
 * Blocks that are taught, AdaRound.  Their products run at a pass's speed, but a small model's chunks are faster than its single samples; what
 * is done to each element between products and to each number that is learned takes its own time.
 */
static double learning_seconds(const struct state *s, double rate)
{
    const struct forecast *c = &s->cast;
    double lessons = 0.85 * c->lesson_flops / fmax(rate, 32e9) + 3e-10 * c->lesson_elements + 3e-9 * c->lesson_moves;
    return lessons + c->adaround_flops / rate + 8.5e-9 * c->adaround_moves;
}

/* Searches are many small steps: a seventh of the speed of a pass. */
static double cpu_seconds(const struct state *s)
{
    const struct forecast *c = &s->cast;
    /* A tiny model's own products are slower than those over all its rows. */
    double rate = fmax(c->pass_flops / (double)c->samples / s->pass_seconds, 16e9);
    return 0.02 + 0.0009 * c->n_sites + 4e-8 * (double)c->codes + s->pass_seconds * passes_of(s)
         + (1.15 * c->moment_flops + c->rebuild_flops + 7 * c->search_flops) / rate + learning_seconds(s, rate);
}

static double wall_seconds(const struct state *s) { return 0.2 + cpu_seconds(s) * s->clock_ratio; }

/* ---- looking ahead ---- */

static bool look_at_model(struct state *s, struct err *e)
{
    const struct foresee *f = s->f;
    if (!load_model(&s->model, f->model, f->n_model, e) || !roles_find(s->model.g, s->model.mem, &s->roles, e)
        || !pipeline_divide_rows(&s->model, &s->roles, f->recipe, e))
        return false;
    if (s->roles.n_layers == 0)
        return err_set(e, ERR_MODEL_INVALID, f->model[0].name, "no layer of this model can be quantized; repquant inspect lists why");
    s->task = (struct sweep_task){ .g = s->model.g, .roles = &s->roles, .recipe = f->recipe, .method = method_find(f->recipe->method),
                                   .samples = &s->calibration };
    s->sweep.g = s->model.g;
    return sweep_list_sites(&s->task, s->mem, &s->sweep, e);
}

static bool recipe_blocked(struct state *s, const struct err *why, struct err *e)
{
    char pointer[sizeof why->where + 8];
    snprintf(pointer, sizeof pointer, "/recipe%s", why->where);
    return blocked(s, pointer, why, e);
}

/* Shapes of what the sweep will run; see find_samples() in pipeline.c. */
static bool find_shapes(struct state *s, struct err *e)
{
    struct err why = { 0 };
    const struct recipe *r = s->f->recipe;
    bool tokens = r->calibration.random_tokens;
    if (s->f->calibration)
        return read_inventory(s, s->f->calibration, &s->calibration, &why) || blocked(s, "/dataset_id", &why, e);
    if (!tokens && !sweep_without_data(&s->roles, r, &why))
        return recipe_blocked(s, &why, e);
    if (!tokens && s->f->evaluation) {
        bool ok = read_inventory(s, s->f->evaluation, &s->calibration, &why);
        s->calibration.count = s->calibration.count < PIPELINE_MEASURED ? s->calibration.count : PIPELINE_MEASURED;
        return ok || blocked(s, "/eval_dataset_id", &why, e);
    }
    return made_samples(&s->model, r, 0, s->mem, &s->calibration, &why)
        || (why.code == ERR_RECIPE_COMBINATION ? recipe_blocked(s, &why, e) : blocked(s, "/dataset_id", &why, e));
}

static bool look_ahead(struct state *s, struct err *e)
{
    return sweep_forecast(&s->task, &s->sweep, s->mem, &s->cast, e) && time_pass(s, e);
}

/* False with *e: trouble of ours.  Problems of the input are noted, and what needs it sound is left out. */
static bool look(struct state *s, struct err *e)
{
    struct err why = { 0 };
    if (!look_at_model(s, &why))
        return blocked(s, "/model_id", &why, e);
    if (!find_shapes(s, e))
        return false;
    if (s->f->evaluation && !read_inventory(s, s->f->evaluation, &s->evaluation, &why) && !blocked(s, "/eval_dataset_id", &why, e))
        return false;
    why = (struct err){ 0 };
    return json_array_size(s->problems) > 0 || look_ahead(s, &why) || blocked(s, "", &why, e);
}

/* ---- what is told ---- */

struct coverage { json_int_t quantized, params, quantized_params, bytes_after; };

static json_t *plan_row(const struct state *s, int i, struct coverage *sum)
{
    struct layer_row row;
    sweep_row(&s->task, &s->sweep, i, &row);
    bool quantized = s->sweep.layers[i].quantize;
    sum->quantized += quantized;
    sum->params += row.params;
    sum->quantized_params += quantized ? row.params : 0;
    sum->bytes_after += row.bytes_after - row.bytes_before;
    return json_pack("{s:s,s:s,s:s,s:s,s:s}", "layer", row.name, "op", row.op, "role", row.role, "planned_precision", row.planned,
                     "reason", row.skip_reason);
}

/* Layers, and what else stays float and why. */
static json_t *plan_json(const struct state *s, struct coverage *sum)
{
    json_t *plan = json_array();
    for (int i = 0; i < s->sweep.n_layers; i++)
        json_array_append_new(plan, plan_row(s, i, sum));
    for (int i = 0; i < s->roles.n_left; i++) {
        const struct node *n = &s->model.g->nodes[s->roles.left[i].node];
        json_array_append_new(plan, json_pack("{s:s,s:s,s:s,s:s,s:s}", "layer", n->name, "op", op_info[n->op].type, "role", "other",
                                              "planned_precision", "float", "reason", s->roles.left[i].reason));
    }
    return plan;
}

static json_t *coverage_json(const struct state *s, const struct coverage *sum)
{
    return json_pack("{s:i,s:I,s:i,s:I,s:I}", "layers", s->sweep.n_layers, "quantized_layers", sum->quantized, "stays_float",
                     s->roles.n_left, "parameters", sum->params, "quantized_parameters", sum->quantized_params);
}

static json_t *estimate_json(const struct state *s, const struct coverage *sum)
{
    double fixed = fixed_bytes(s);
    return json_pack("{s:I,s:I,s:f,s:f,s:I,s:I,s:i,s:I}", "memory_bytes", (json_int_t)(fixed + held_bytes(s)), "fixed_bytes", (json_int_t)fixed,
                     "seconds", wall_seconds(s), "cpu_seconds", cpu_seconds(s), "output_bytes", (json_int_t)s->model.bytes + sum->bytes_after,
                     "samples", (json_int_t)s->cast.samples, "threads", s->f->threads, "budget_bytes", (json_int_t)s->f->memory);
}

static void on_advice(void *arg, const char *code, const char *pointer, const char *where, const char *text)
{
    add_problem(arg, "warning", code, pointer, where, text);
}

json_t *foresee_json(const struct foresee *f, struct err *e)
{
    struct state s = { .f = f, .mem = arena_new(UINT64_MAX / 2), .problems = json_array() };
    struct coverage sum = { 0 };
    json_t *ret = NULL;
    bool ok = (s.mem && s.problems) || err_set(e, ERR_MEMORY, "", "no memory to look ahead");
    ok = ok && blas_init(e);
    flush_denormals();
    if (ok && look(&s, e)) {
        bool blocked = json_array_size(s.problems) > 0;
        json_t *plan = plan_json(&s, &sum);
        json_t *coverage = coverage_json(&s, &sum), *estimate = blocked ? json_null() : estimate_json(&s, &sum);
        if (!blocked)
            advise(f->recipe, &s.roles, f->calibration ? s.calibration.count : -1, "calibration", on_advice, &s);
        ret = json_pack("{s:o,s:o,s:o,s:O}", "plan", plan, "coverage", coverage, "estimate", estimate, "problems", s.problems);
        if (!ret)
            err_set(e, ERR_MEMORY, "", "no memory for the plan");
    }
    json_decref(s.problems);
    loaded_model_release(&s.model);
    arena_free(s.mem);
    return ret;
}
