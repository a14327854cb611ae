/*
 * pipeline.c - see pipeline_run() at the end: one step a line.
 */
#include "core/cli/pipeline.h"

#include "core/artifact/artifact.h"
#include "core/base/clock.h"
#include "core/base/version.h"
#include "core/cli/advice.h"
#include "core/cli/made_samples.h"
#include "core/cli/random_tokens.h"
#include "core/graph/unit_rows.h"
#include "core/kernel/kernel.h"
#include "core/method/method.h"
#include "core/report/evaluate.h"
#include "core/sweep/sweep.h"

#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const pipeline_files[PIPELINE_FILES] = { "model.onnx", "report.json", "details.json", "manifest.json" };

/* Where the sweep's samples are from.  Only from the first two anything is decided. */
enum source { FROM_CALIBRATION, FROM_RANDOM_TOKENS, FROM_EVALUATION, FROM_NOWHERE };
static const char *const source_name[] = { "calibration", "random_tokens", "evaluation", "none" };

/* The artifact must match the simulation; both run the same kernels, so only fusion can tell them apart. */
static const double min_parity_db = 60;

struct state {
    const struct pipeline *p;
    struct arena *mem, *codes;         /* codes: of weights; only until they are in the artifact */
    struct pool *pool;
    struct loaded_model model, artifact;
    struct loaded_data calibration, evaluation;
    enum source source;
    struct samples samples;            /* that the sweep runs */
    struct roles roles;
    struct sweep_task task;
    struct sweep sweep;
    uint64_t artifact_bytes;
    uint8_t model_digest[HASH_SIZE], artifact_digest[HASH_SIZE];
    double parity_db;
    bool evaluated;
    struct evaluation accuracy;
    int64_t started;
    double sweep_seconds;
};

/* Ranges per token are written into the graph before anything is decided: what linears read is then fixed. */
bool pipeline_divide_rows(struct loaded_model *m, struct roles *roles, const struct recipe *r, struct err *e)
{
    struct recipe_choice choice;
    if (r->activations.granularity != RECIPE_PER_TOKEN)
        return true;
    bool *wanted = arena_array(m->mem, (uint64_t)roles->n_layers, sizeof *wanted, e);
    for (int i = 0; wanted && i < roles->n_layers; i++) {
        recipe_match(r, roles->layers[i].name, RECIPE_ANY_PART, &choice);
        wanted[i] = choice.quantize;
    }
    return wanted && graph_unit_rows(m->g, roles, wanted, e) && roles_find(m->g, m->mem, roles, e)
        && lowering_from_qdq(&m->how, m->g, m->mem, e);
}

static bool load_calibration(struct state *s, struct err *e)
{
    const struct pipeline *p = s->p;
    if (!find_inputs(&s->calibration, s->model.g, e) || !samples_cut(s->calibration.mem, &s->calibration.samples, e)
        || (p->recipe->calibration.random_tokens
            && !random_tokens(s->model.g, p->seed, s->calibration.mem, &s->calibration.samples, e)))
        return false;
    s->samples = s->calibration.samples;
    return true;
}

/* Nobody gave any.  Where the recipe decides nothing from samples, layers can be measured on the evaluation's. */
static bool find_samples(struct state *s, struct err *e)
{
    const struct recipe *r = s->p->recipe;
    bool tokens = r->calibration.random_tokens;
    if (!tokens && !sweep_without_data(&s->roles, r, e))
        return false;
    s->source = tokens ? FROM_RANDOM_TOKENS : s->p->evaluation.name ? FROM_EVALUATION : FROM_NOWHERE;
    s->samples = s->evaluation.samples;
    if (s->source != FROM_EVALUATION)
        return made_samples(&s->model, r, s->p->seed, s->mem, &s->samples, e);
    s->samples.count = s->samples.count < PIPELINE_MEASURED ? s->samples.count : PIPELINE_MEASURED;
    return samples_cut(s->evaluation.mem, &s->samples, e);
}

/* Model and data are read and hashed at once. */
enum { LOAD_MODEL, LOAD_CALIBRATION, LOAD_EVALUATION, LOADS };

static bool load_one(void *arg, size_t piece, int thread, struct err *e)
{
    struct state *s = arg;
    const struct pipeline *p = s->p;
    const struct file_ref *file = piece == LOAD_CALIBRATION ? &p->calibration : &p->evaluation;
    (void)thread;
    if (piece == LOAD_MODEL) {
        bool ok = p->find_external ? load_model_path(&s->model, p->model[0].path, e) : load_model(&s->model, p->model, p->n_model, e);
        if (ok)
            loaded_model_digest(&s->model, s->model_digest);
        return ok;
    }
    return !file->name || load_dataset(piece == LOAD_CALIBRATION ? &s->calibration : &s->evaluation, file, LOAD_NO_LIMIT, p->dir, e);
}

/* A person's folder of results may hold what is read; a job's has nothing but results, and inputs without names. */
static bool spare_inputs(const struct state *s, struct err *e)
{
    const struct pipeline *p = s->p;
    char path[4096];
    for (int i = 0; i <= PIPELINE_FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", p->dir, i < PIPELINE_FILES ? pipeline_files[i] : "journal");
        if (!mapping_spared(path, s->model.maps, s->model.n_maps, e) || !mapping_spared(path, &s->calibration.map, 1, e)
            || !mapping_spared(path, &s->evaluation.map, 1, e) || !mapping_spared(path, &p->recipe_file, 1, e))
            return false;
    }
    return true;
}

static bool load(struct state *s, struct err *e)
{
    const struct pipeline *p = s->p;
    events_stage(p->events, "preparing");
    if (!blas_init(e))
        return false;
    flush_denormals();
    if (!(s->pool = pool_new(p->threads, e)))
        return false;
    if (!pool_run(s->pool, LOADS, load_one, s, e) || (p->find_external && !spare_inputs(s, e)) || !roles_find(s->model.g, s->model.mem, &s->roles, e)
        || !pipeline_divide_rows(&s->model, &s->roles, p->recipe, e) || (p->calibration.name && !load_calibration(s, e))
        || (p->evaluation.name && !find_inputs(&s->evaluation, s->model.g, e)))
        return false;
    if (s->roles.n_layers == 0)
        return err_set(e, ERR_MODEL_INVALID, p->model[0].name, "no layer of this model can be quantized; repquant inspect lists why");
    return p->calibration.name || find_samples(s, e);
}

static void on_advice(void *arg, const char *code, const char *pointer, const char *where, const char *text)
{
    (void)pointer;
    events_warning(arg, code, where, "%s", text);
}

/* What users should know before they trust or deploy the result. */
static void warn(const struct state *s)
{
    const struct pipeline *p = s->p;
    if (!cpu_has_vnni() && p->recipe->weights.bits == 8 && p->recipe->target == RECIPE_TARGET_ONNXRUNTIME)
        events_warning(p->events, "target.no_vnni", "cpu",
                       "this CPU has no VNNI: on such machines ONNX Runtime can saturate 8-bit products; set session.x64quantprecision=1 there, or use 7-bit weights");
    if (s->source == FROM_NOWHERE)
        events_warning(p->events, "dataset.none", "calibration",
                       "no samples were given: ranges of activations, errors behind layers and accuracy are not measured; give evaluation data to see them");
    int64_t samples = s->source == FROM_CALIBRATION ? s->calibration.samples.count : -1;
    advise(p->recipe, &s->roles, samples, p->calibration.name, on_advice, (void *)(uintptr_t)p->events);
    for (int i = 0; i < s->roles.n_left; i++)
        events_warning(p->events, "model.stays_float", s->model.g->nodes[s->roles.left[i].node].name, "%s", s->roles.left[i].reason);
}

/* What was seen although it is no data. */
static void warn_of_padding(const struct state *s)
{
    const struct chunks *c = &s->sweep.chunks;
    double percent = chunks_padding(c);
    if (percent > 0)
        events_warning(s->p->events, "dataset.padding", s->p->calibration.name, "%.1f %% of the calibrated positions are padding and count in ranges: %s",
                       percent, c->trimmed ? "they lie before or between others; pad at the end"
                                           : "the model's inputs have a fixed length; export them with a dynamic one");
}

static bool sweep(struct state *s, struct err *e)
{
    const struct pipeline *p = s->p;
    s->task = (struct sweep_task){
        .g = s->model.g, .roles = &s->roles, .recipe = p->recipe, .method = method_find(p->recipe->method),
        .samples = &s->samples, .made_up = s->source == FROM_NOWHERE, .pool = s->pool, .memory = p->memory, .dir = p->dir, .seed = p->seed,
        .events = p->events, .codes = s->codes, .maps = s->model.maps, .n_maps = s->model.n_maps,
    };
    const struct loaded_data *data = s->source == FROM_EVALUATION ? &s->evaluation : &s->calibration;
    sweep_fingerprint(s->model_digest, data->digest, p->recipe, p->seed, s->task.fingerprint);
    events_stage(p->events, "calibrating");
    int64_t start = clock_mono_us();
    bool ok = sweep_run(&s->task, s->mem, &s->sweep, e);
    s->sweep_seconds = 1e-6 * (double)(clock_mono_us() - start);
    if (ok)
        warn_of_padding(s);
    return ok;
}

/* INT4 storage is for runtimes that take it and models that have a form in its opset; 8-bit storage is the same codes. */
static bool build(const struct state *s, struct artifact_spec *spec, struct onnx_model *ret, struct err *e)
{
    struct err why = { 0 };
    spec->packed = false;
    for (int i = 0; i < spec->n_layers; i++)
        spec->packed |= spec->layers[i].w && artifact_may_pack(spec->target, spec->layers[i].w->bits);
    if (spec->packed && artifact_build(spec, s->mem, ret, &why))
        return true;
    if (spec->packed && why.code != ERR_EXPORT_FORM)
        return err_set(e, why.code, why.where, "%s", why.text);
    if (spec->packed)
        events_warning(s->p->events, "export.int8_storage", why.where, "4-bit weights are stored as int8: %s", why.text);
    spec->packed = false;
    return artifact_build(spec, s->mem, ret, e);
}

static bool export_model(struct state *s, struct err *e)
{
    const struct sweep *sw = &s->sweep;
    char recipe_digest[HASH_TEXT_SIZE], source_digest[HASH_TEXT_SIZE];
    uint8_t digest[HASH_SIZE];
    struct onnx_model m;
    events_stage(s->p->events, "exporting");
    struct artifact_layer *layers = arena_array(s->mem, (uint64_t)sw->n_layers, sizeof *layers, e);
    char *recipe = recipe_text(s->p->recipe);
    if (!layers || !recipe) {
        free(recipe);
        return err_set(e, ERR_MEMORY, "", "no memory for the artifact");
    }
    hash_bytes(recipe, strlen(recipe), digest);
    hash_text(digest, recipe_digest);
    hash_text(s->model_digest, source_digest);
    free(recipe);
    const struct onnx_pair metadata[] = {
        { "repquant.version", VERSION }, { "repquant.recipe", s->p->recipe->name },
        { "repquant.recipe_digest", recipe_digest }, { "repquant.source_digest", source_digest },
    };
    struct artifact_spec spec = { .g = sw->g, .layers = layers, .target = s->p->recipe->target,
                                  .how = &sw->quantized, .metadata = metadata, .n_metadata = sizeof metadata / sizeof metadata[0] };
    for (int i = 0; i < sw->n_layers; i++) {
        const struct sweep_layer *l = &sw->layers[i];
        struct artifact_layer a = { l->l, l->w.codes ? &l->w : NULL, sweep_input(sw, l->x), sweep_input(sw, l->other), sweep_input(sw, l->out) };
        a.x.dynamic = l->dynamic;
        if (l->quantize)
            layers[spec.n_layers++] = a;
    }
    return build(s, &spec, &m, e)
        && artifact_save(&m, s->p->dir, "model.onnx", &s->artifact_bytes, s->artifact_digest, e);
}

/* What is in the artifact now: the codes; and what was read of the model. */
static void forget_weights(struct state *s)
{
    for (int i = 0; i < s->sweep.n_layers; i++)
        s->sweep.layers[i].w.codes = NULL;
    arena_free(s->codes);
    s->codes = NULL;
    malloc_trim(0);                /* what lies between live blocks would stay with the process */
    for (size_t i = 0; i < s->model.n_maps; i++)
        mapping_rest(s->model.maps[i].data, s->model.maps[i].size);
}

/* Of a chunk, and of all: how far the artifact is from the simulation, and how many of the simulated values are infinite or none (NaN). */
struct compared { struct errors sum; size_t odd; };

struct parity { const struct state *s; struct compared *of; };

static bool compare_chunk(void *arg, int chunk, int thread, struct frame *f, struct err *e)
{
    struct parity *p = arg;
    const struct sweep *sw = &p->s->sweep;
    const struct graph *g = p->s->artifact.g;
    (void)thread;
    for (int i = 0; i < g->n_outputs; i++) {
        const struct tensor *want = &sw->checked[chunk * g->n_outputs + i], *got = &f->t[g->outputs[i]];
        if (want->dtype != got->dtype || !shape_equal(&want->shape, &got->shape))
            return err_set(e, ERR_EXPORT_PARITY, g->values[g->outputs[i]].name, "the artifact's output has another shape than was simulated");
        if (want->dtype == DT_F32)
            p->of[chunk].odd += errors_add_finite(&p->of[chunk].sum, want->data, got->data, (size_t)shape_elements(&want->shape));
    }
    return true;
}

/* Reads the artifact back, runs it on the samples the sweep kept, node by node as the sweep did (sums of floats by tiles end in other
 * bits, and a code that falls to the other side of a rounding is seen in all that follows), and compares. */
static bool check_parity(struct state *s, struct err *e)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/model.onnx", s->p->dir) >= sizeof path)
        return err_set(e, ERR_NO_FILE, s->p->dir, "the folder's path is too long");
    struct file_ref file = { "model.onnx", path, -1 };
    struct chunks c;
    struct parity p = { s, arena_array(s->mem, (uint64_t)s->sweep.chunks.n, sizeof(struct compared), e) };
    if (!p.of || !load_model(&s->artifact, &file, 1, e))
        return false;
    s->artifact.how.tiled = false;
    if (!chunks_new(&c, s->artifact.g, &s->artifact.how, s->mem, &s->samples, 0, s->sweep.chunks.count, e))
        return false;
    c.n = s->sweep.n_checked;
    if (!chunks_run(&c, &s->artifact.how, s->pool, compare_chunk, &p, e))
        return false;
    s->artifact.how.tiled = true;
    struct compared all = { 0 };
    for (int i = 0; i < c.n; i++) {
        errors_merge(&all.sum, &p.of[i].sum);
        all.odd += p.of[i].odd;
    }
    if (all.odd)
        events_warning(s->p->events, "numeric.not_finite", "model.onnx", "%zu of %llu values that it puts out for the calibration samples are infinite or none (NaN)",
                       all.odd, (unsigned long long)all.sum.n);
    s->parity_db = errors_sqnr_db(all.sum.signal, all.sum.noise);
    if (s->parity_db < min_parity_db)
        return err_set(e, ERR_EXPORT_PARITY, "model.onnx", "the artifact differs from the simulation (%.1f dB on %lld samples); please report this model",
                       s->parity_db, (long long)c.chunk[c.n - 1].first + c.chunk[c.n - 1].rows);
    return true;
}

static bool judge(struct state *s, struct err *e)
{
    if (!s->p->evaluation.name)
        return true;
    events_stage(s->p->events, "evaluating");
    struct runnable quantized = { s->artifact.g, &s->artifact.how }, original = { s->model.g, &s->model.how };
    if (!evaluate(&quantized, &original, &s->evaluation.samples, s->pool, &s->accuracy, e))
        return false;
    s->evaluated = true;
    evaluation_events(&s->accuracy, s->p->events);
    return true;
}

static bool save_json(const struct state *s, const char *name, json_t *value, struct err *e)
{
    char *text = value ? json_text(value, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    bool ok = text ? io_save(s->p->dir, name, text, strlen(text), e) : err_set(e, ERR_MEMORY, name, "no memory for the report");
    free(text);
    json_decref(value);
    return ok;
}

static json_t *summary_json(const struct state *s)
{
    const struct sweep *sw = &s->sweep;
    int quantized = 0;
    for (int i = 0; i < sw->n_layers; i++)
        quantized += sw->layers[i].quantize;
    json_t *o = json_pack("{s:i,s:i,s:i,s:i,s:I,s:I,s:I}", "layers", sw->n_layers, "quantized_layers", quantized, "sites",
                          sw->n_sites, "regions", sw->n_regions, "bytes_before", (json_int_t)s->model.bytes, "bytes_after",
                          (json_int_t)s->artifact_bytes, "calibration_samples",
                          (json_int_t)(s->source <= FROM_RANDOM_TOKENS ? sw->chunks.count : 0));
    json_object_set_new(o, "samples_from", json_string(source_name[s->source]));
    json_object_set_new(o, "samples", json_integer(s->source == FROM_NOWHERE ? 0 : (json_int_t)sw->chunks.count));
    json_object_set_new(o, "size_ratio", json_real((double)s->artifact_bytes / (double)s->model.bytes));
    json_object_set_new(o, "parity_db", json_finite(s->parity_db));
    json_object_set_new(o, "sweep_seconds", json_real(s->sweep_seconds));
    json_object_set_new(o, "peak_held_bytes", json_integer(sw->peak_held));
    json_object_set_new(o, "spilled_bytes", json_integer(sw->spilled));
    json_object_set_new(o, "replayed_sites", json_integer(sw->replayed_sites));
    json_object_set_new(o, "searched_sites", json_integer(sw->searched_sites));
    json_object_set_new(o, "replayed_weights", json_integer(sw->replayed_weights));
    json_object_set_new(o, "made_weights", json_integer(sw->made_weights));
    json_object_set_new(o, "passes", json_real(sw->passes));
    return o;
}

/* Members that are null in all rows, as there was nothing to measure them on; the artifact's parity was looked at on made-up samples. */
static json_t *not_measured(const struct state *s)
{
    json_t *list = json_array();
    static const char *const members[] = { "output_sqnr_db", "output_mse", "cosine", "isolated_sqnr_db", "accumulated_sqnr_db", "act_min", "act_max",
                                           "channel_range_ratio_before", "channel_range_ratio_after", "saturation_pct", "evaluation" };
    for (size_t i = 0; s->source == FROM_NOWHERE && i < sizeof members / sizeof members[0]; i++)
        json_array_append_new(list, json_string(members[i]));
    return list;
}

/* What was taught and what it gained on samples that nothing was learned from. */
static json_t *blocks_json(const struct sweep *sw)
{
    json_t *list = json_array();
    for (int i = 0; i < sw->n_blocks; i++) {
        const struct sweep_block *b = &sw->blocks[i];
        const struct block_result *r = &b->result;
        json_array_append_new(list, json_pack("{s:s,s:b,s:s,s:o,s:o,s:o,s:o,s:f,s:f}", "name", b->name, "kept", r->kept, "reason", r->reason,
            "error_before", json_finite(r->before), "error_after", json_finite(r->after), "fitted_before", json_finite(r->fitted_before),
            "fitted_after", json_finite(r->fitted_after), "seconds", r->seconds, "gflop", 2e-9 * r->products));
    }
    return list;
}

static bool write_report(struct state *s, struct err *e)
{
    const struct sweep *sw = &s->sweep;
    json_t *rows = json_array(), *details = json_array(), *left = json_array();
    for (int i = 0; i < sw->n_layers; i++) {
        const struct sweep_layer *l = &sw->layers[i];
        struct layer_row row;
        sweep_row(&s->task, sw, i, &row);
        json_array_append_new(rows, layer_row_json(&row));
        struct site_codes x = l->x >= 0 ? sweep_codes(&sw->sites[l->x]) : (struct site_codes){ 0 };
        struct site_codes other = l->other >= 0 ? sweep_codes(&sw->sites[l->other]) : (struct site_codes){ 0 };
        json_array_append_new(details, layer_detail_json(&row, i, l->x >= 0 ? &x : NULL, l->other >= 0 ? &other : NULL,
                                                         l->other >= 0 ? &sw->sites[l->other].summary : NULL));
    }
    for (int i = 0; i < s->roles.n_left; i++) {
        const struct node *n = &s->model.g->nodes[s->roles.left[i].node];
        json_array_append_new(left, json_pack("{s:s,s:s,s:s}", "node", n->name, "op", op_info[n->op].type, "reason", s->roles.left[i].reason));
    }
    json_t *report = json_pack("{s:o,s:o,s:o,s:o,s:o}", "not_measured", not_measured(s), "summary", summary_json(s), "recipe", recipe_json(s->p->recipe),
                               "layers", rows, "left_float", left);
    if (sw->n_blocks)
        json_object_set_new(report, "blocks", blocks_json(sw));
    json_object_set_new(report, "evaluation", s->evaluated ? evaluation_json(&s->accuracy) : json_null());
    return save_json(s, "report.json", report, e) & save_json(s, "details.json", json_pack("{s:o}", "layers", details), e);
}

static void set_digest(json_t *o, const char *key, const uint8_t digest[HASH_SIZE])
{
    char text[HASH_TEXT_SIZE];
    hash_text(digest, text);
    json_object_set_new(o, key, json_string(text));
}

static bool write_manifest(struct state *s, struct err *e)
{
    char time[CLOCK_RFC3339_SIZE];
    json_t *o = json_object(), *inputs = json_object(), *engine = json_object();
    set_digest(inputs, "model", s->model_digest);
    if (s->p->calibration.name)
        set_digest(inputs, "calibration", s->calibration.digest);
    if (s->evaluated)
        set_digest(inputs, "evaluation", s->evaluation.digest);
    json_object_set_new(engine, "version", json_string(engine_version));
    json_object_set_new(engine, "threads", json_integer(s->p->threads));
    json_object_set_new(engine, "blas", json_string(blas_kernel()));
    json_object_set_new(engine, "blas_config", json_string(blas_config()));
    json_object_set_new(engine, "cpu_features", json_string(cpu_features()));
    json_object_set_new(engine, "vnni", json_boolean(cpu_has_vnni()));
    set_digest(o, "artifact", s->artifact_digest);
    json_object_set_new(o, "artifact_bytes", json_integer((json_int_t)s->artifact_bytes));
    json_object_set_new(o, "inputs", inputs);
    json_object_set_new(o, "recipe", recipe_json(s->p->recipe));
    json_object_set_new(o, "seed", json_integer((json_int_t)s->p->seed));
    json_object_set_new(o, "engine", engine);
    json_object_set_new(o, "created_at", json_string(clock_rfc3339(clock_now_us(), time)));
    return save_json(s, "manifest.json", o, e);
}

static void set_result(const struct state *s, struct pipeline_result *ret)
{
    *ret = (struct pipeline_result){ .bytes_before = s->model.bytes, .bytes_after = s->artifact_bytes, .layers = s->sweep.n_layers,
                                     .seconds = 1e-6 * (double)(clock_mono_us() - s->started), .evaluated = s->evaluated,
                                     .unmeasured = s->source == FROM_NOWHERE };
    for (int i = 0; i < s->sweep.n_layers; i++)
        ret->quantized += s->sweep.layers[i].quantize;
    hash_text(s->artifact_digest, ret->digest);
}

static void drop_journal(const struct pipeline *p)
{
    char path[4096];
    if (!p->keep_journal && (size_t)snprintf(path, sizeof path, "%s/journal", p->dir) < sizeof path)
        unlink(path);
}

bool pipeline_run(const struct pipeline *p, struct pipeline_result *ret, struct err *e)
{
    struct state s = { .p = p, .mem = arena_new(UINT64_MAX / 2), .codes = arena_new(UINT64_MAX / 2), .started = clock_mono_us() };
    bool ok = (s.mem && s.codes) || err_set(e, ERR_MEMORY, "", "no memory for a job");
    ok = ok && load(&s, e);
    if (ok)
        warn(&s);
    ok = ok && sweep(&s, e) && export_model(&s, e);
    if (ok)
        forget_weights(&s);
    ok = ok && check_parity(&s, e) && judge(&s, e)
      && write_report(&s, e) && write_manifest(&s, e);
    if (ok) {
        set_result(&s, ret);
        drop_journal(p);
    }
    pool_free(s.pool);
    loaded_data_release(&s.calibration);
    loaded_data_release(&s.evaluation);
    loaded_model_release(&s.artifact);
    arena_free(s.codes);
    arena_free(s.mem);             /* before the model: the sweep's results were views into it */
    loaded_model_release(&s.model);
    return ok;
}
