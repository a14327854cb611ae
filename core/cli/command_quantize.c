/* `repquant quantize`: a quantization on files, offline. */
#include "core/cli/cli.h"
#include "core/cli/pipeline.h"
#include "core/cli/progress.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYNOPSIS                                                                                                  \
    "quantize MODEL --recipe NAME|FILE.json --output DIR [--calibration DATA] [--evaluation DATA] [--threads N] "   \
    "[--seed N] [--memory BYTES] [--progress auto|json|none]"

static bool is_file_name(const char *s)
{
    size_t n = strlen(s);
    return strchr(s, '/') || (n > 5 && strcmp(s + n - 5, ".json") == 0);
}

/* A preset's name, or the path of a recipe file. */
static bool read_recipe(const char *arg, struct recipe *ret, struct mapping *ret_file, struct err *e)
{
    char *text = NULL;
    size_t n = 0;
    if (!is_file_name(arg)) {
        char quoted[RECIPE_MAX_TEXT > 512 ? 512 : 64];
        int len = snprintf(quoted, sizeof quoted, "\"%.400s\"", arg);
        return recipe_parse(quoted, (size_t)len, ret, e);
    }
    int fd = open(arg, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, arg, "open");
    bool ok = io_read_all(fd, arg, RECIPE_MAX_TEXT, &text, &n, e) && recipe_parse(text, n, ret, e);
    struct stat st;
    if (fstat(fd, &st) == 0)
        *ret_file = (struct mapping){ .dev = st.st_dev, .ino = st.st_ino };
    free(text);
    close(fd);
    return ok;
}

static bool progress_kind(const char *text, enum progress_kind *ret)
{
    if (strcmp(text, "auto") == 0)
        *ret = isatty(STDERR_FILENO) ? PROGRESS_BAR : PROGRESS_NONE;
    else if (strcmp(text, "json") == 0)
        *ret = PROGRESS_JSON;
    else if (strcmp(text, "none") == 0)
        *ret = PROGRESS_NONE;
    else
        return false;
    return true;
}

static void print_summary(const struct pipeline *p, const struct pipeline_result *r)
{
    printf("%s/model.onnx  %.2f MB, %.1f %% of the float model  %s\n", p->dir, 1e-6 * (double)r->bytes_after,
           100.0 * (double)r->bytes_after / (double)r->bytes_before, r->digest);
    printf("%d of %d layers quantized in %.1f s; report.json, details.json and manifest.json lie beside it\n", r->quantized,
           r->layers, r->seconds);
    if (r->unmeasured)
        printf("no samples were given: errors behind layers and accuracy were not measured\n");
}

static int quantize(struct pipeline p, const char *recipe_arg, enum progress_kind kind)
{
    struct err e = { 0 };
    struct recipe recipe;
    struct pipeline_result result;
    struct progress progress;
    progress_init(&progress, kind, kind == PROGRESS_JSON ? STDOUT_FILENO : STDERR_FILENO);
    p.recipe = &recipe;
    p.events = &progress.events;
    bool ok = read_recipe(recipe_arg, &recipe, &p.recipe_file, &e);
    if (ok && !io_make_folder(p.dir, 0755))
        ok = err_sys(&e, p.dir, "create the folder");
    ok = ok && pipeline_run(&p, &result, &e);
    progress_end(&progress);
    if (kind == PROGRESS_JSON && ok)
        progress_done(&progress, pipeline_files, PIPELINE_FILES);
    if (kind == PROGRESS_JSON && !ok)
        progress_problem(&progress, &e);
    if (!ok)
        return cli_fail(&e);
    if (kind != PROGRESS_JSON)
        print_summary(&p, &result);
    return 0;
}

int command_quantize(int argc, char **argv)
{
    const char *calibration = NULL, *evaluation = NULL, *recipe = NULL, *output = NULL, *progress = "auto", *model;
    int64_t threads = 0, seed = 0, memory = (int64_t)1 << 30;
    enum progress_kind kind;
    const struct cli_option options[] = {
        { "calibration", CLI_STRING, &calibration, 0, 0, false, "npz, npy, safetensors, or a folder or zip of pictures; 32 samples or more; only a recipe that decides nothing from samples does without" },
        { "recipe", CLI_STRING, &recipe, 0, 0, true, "a preset (repquant recipes) or a JSON file" },
        { "output", CLI_STRING, &output, 0, 0, true, "folder for model.onnx and the reports" },
        { "evaluation", CLI_STRING, &evaluation, 0, 0, false, "the same to judge float and quantized model on" },
        { "threads", CLI_INT, &threads, 1, 64, false, "worker threads (default: the processors at hand)" },
        { "seed", CLI_INT, &seed, 0, INT64_MAX, false, "of everything random (default 0)" },
        { "memory", CLI_BYTES, &memory, 0, INT64_MAX, false, "budget of held activations, e.g. 512M (default 1G); beyond it they spill to disk" },
        { "progress", CLI_STRING, &progress, 0, 0, false, "auto, json or none" },
    };
    int code = 0;
    if (!cli_parse(SYNOPSIS, options, sizeof options / sizeof options[0], argc, argv, &model, 1, &code))
        return code;
    if (!progress_kind(progress, &kind))
        return cli_usage(SYNOPSIS, "--progress must be auto, json or none, not \"%s\"", progress);
    struct file_ref file = { model, model, -1 };
    struct pipeline p = {
        .model = &file, .n_model = 1, .find_external = true, .calibration = { calibration, calibration, -1 },
        .evaluation = { evaluation, evaluation, -1 }, .dir = output, .threads = cli_threads(threads),
        .memory = (uint64_t)memory, .seed = (uint64_t)seed,
    };
    return quantize(p, recipe, kind);
}
