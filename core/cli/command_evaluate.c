/* `repquant evaluate`: what a model is worth on data, alone or against a reference. */
#include "core/cli/cli.h"
#include "core/cli/load.h"
#include "core/kernel/kernel.h"
#include "core/report/evaluate.h"

#define SYNOPSIS "evaluate MODEL --data DATA [--reference MODEL] [--json] [--threads N]"

static void print_text(const struct evaluation *v)
{
    const struct accuracy *m = &v->model, *r = &v->reference;
    printf("samples        %lld\n", (long long)m->samples);
    if (m->has_labels)
        printf("top-1          %.2f %%\ntop-5          %.2f %%\n", m->top1, m->top5);
    if (m->has_tokens)
        printf("perplexity     %.4f\n", m->perplexity);
    if (!v->has_reference)
        return;
    if (r->has_labels)
        printf("reference      top-1 %.2f %%, top-5 %.2f %%\n", r->top1, r->top5);
    if (r->has_tokens)
        printf("reference      perplexity %.4f\n", r->perplexity);
    printf("agreement      %.2f %%\ncosine         %.6f\nlogit SQNR     %.2f dB\nKL             %.6f\n", v->agreement, v->cosine,
           v->logit_sqnr_db, v->kl);
}

static bool run(const char *path, const char *data, const char *reference, int threads, struct evaluation *ret, struct err *e)
{
    struct loaded_model m = { 0 }, r = { 0 };
    struct loaded_data d = { 0 };
    struct pool *pool = NULL;
    struct file_ref file = { data, data, -1 };
    bool ok = blas_init(e) && load_model_path(&m, path, e) && (!reference || load_model_path(&r, reference, e))
           && load_samples(&d, &file, m.g, cli_scratch_dir(), e) && (pool = pool_new(threads, e));
    struct runnable model = { m.g, &m.how }, ref = { r.g, &r.how };
    ok = ok && evaluate(&model, reference ? &ref : NULL, &d.samples, pool, ret, e);
    pool_free(pool);
    loaded_data_release(&d);
    loaded_model_release(&m);
    loaded_model_release(&r);
    return ok;
}

static bool compares(const struct evaluation *v, const char *data, struct err *e)
{
    return v->has_reference || v->model.has_labels || v->model.has_tokens
        || err_set(e, ERR_REQUEST_INVALID, data, "the data have no labels, so there is nothing to compare with; give --reference, or data with an array `labels`");
}

int command_evaluate(int argc, char **argv)
{
    const char *data = NULL, *reference = NULL, *model;
    bool json = false;
    int64_t threads = 0;
    const struct cli_option options[] = {
        { "data", CLI_STRING, &data, 0, 0, true, "npz with the model's inputs and, for classifiers, `labels`" },
        { "reference", CLI_STRING, &reference, 0, 0, false, "the model to compare with, usually the float one" },
        { "json", CLI_FLAG, &json, 0, 0, false, "the figures as JSON" },
        { "threads", CLI_INT, &threads, 1, 64, false, "worker threads (default: the processors at hand)" },
    };
    struct err e = { 0 };
    struct evaluation v;
    int code = 0;
    if (!cli_parse(SYNOPSIS, options, sizeof options / sizeof options[0], argc, argv, &model, 1, &code))
        return code;
    if (!run(model, data, reference, cli_threads(threads), &v, &e) || !compares(&v, data, &e))
        return cli_fail(&e);
    if (json)
        return cli_print_json(stdout, evaluation_json(&v)) ? 0 : err_exit_code(ERR_IO);
    print_text(&v);
    return 0;
}
