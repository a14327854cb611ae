/* main.c - the program `repquant`: start here.  One command a file, in core/cli/. */
#include "core/base/version.h"
#include "core/cli/cli.h"

#include <malloc.h>
#include <signal.h>
#include <string.h>

static const struct command commands[] = {
    { "inspect", "inspect MODEL [--json]", "inputs, outputs, operators, layers, what can be quantized", command_inspect },
    { "run", "run MODEL --inputs X.npz --outputs Y.npz", "execute a model with our engine", command_run },
    { "quantize", "quantize MODEL --recipe NAME|FILE.json --output DIR [--calibration DATA]",
      "write DIR/model.onnx, report.json, manifest.json, details.json", command_quantize },
    { "evaluate", "evaluate MODEL --data DATA [--reference MODEL]", "accuracy, alone or against a reference", command_evaluate },
    { "recipes", "recipes [NAME]", "the presets, or one as JSON", command_recipes },
    { "job", "job DIR", "run the job described by DIR/job.json (what repquantd runs; docs/job.md)", command_job },
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static int help(FILE *to, int code)
{
    fprintf(to, "repquant " VERSION ": quantize transformers to ONNX that any ONNX Runtime runs\n\n");
    for (int i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-9s %s\n            repquant %s\n", commands[i].name, commands[i].summary, commands[i].synopsis);
    fprintf(to, "\nrepquant COMMAND --help lists a command's options.\n"
                "Exit codes: 0 done, 1 the input is at fault, 2 usage, 3 the environment, 4 a bug of ours.\n");
    return code;
}

static int run(int argc, char **argv)
{
    if (argc < 2)
        return help(stderr, err_exit_code(ERR_REQUEST_INVALID));
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
        return help(stdout, 0);
    if (strcmp(argv[1], "--version") == 0)
        return printf("repquant %s\n", engine_version) < 0 ? err_exit_code(ERR_IO) : 0;
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "repquant: no command \"%s\"\n\n", argv[1]);
    return help(stderr, err_exit_code(ERR_REQUEST_INVALID));
}

/* What was printed may lie in memory until now: a full disk is to be told before we say that all is done. */
static int told(int code)
{
    struct err e = { 0 };
    if (fflush(stdout) != 0)
        err_sys(&e, "standard output", "write");
    else if (ferror(stdout))
        err_set(&e, ERR_IO, "standard output", "not all could be written");
    else
        return code;
    int failed = cli_fail(&e);
    return code ? code : failed;
}

int main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN);      /* a reader that left is an error of write(), not our death */
    json_object_seed(0);
    /* Activations come and go by the megabyte: given back to the kernel each time they would be zeroed again each time. */
    mallopt(M_MMAP_THRESHOLD, 64 << 20);    // NOLINT(concurrency-mt-unsafe): no threads yet
    mallopt(M_TRIM_THRESHOLD, 256 << 20);   // NOLINT(concurrency-mt-unsafe): no threads yet
    return told(run(argc, argv));
}
