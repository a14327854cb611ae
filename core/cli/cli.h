/*
 * cli.h - the commands of `repquant`, and what they share.
 *
 * Exit codes: 0 done; 1 the input is at fault; 2 usage; 3 the environment; 4 a bug of ours.
 */
#ifndef CORE_CLI_CLI_H
#define CORE_CLI_CLI_H

#include "core/base/err.h"
#include "core/base/json.h"

#include <stdio.h>

struct command {
    const char *name, *synopsis, *summary;
    int (*run)(int argc, char **argv);     /* argv[0] is the command's name; returns the exit code */
};

int command_inspect(int argc, char **argv);
int command_run(int argc, char **argv);
int command_quantize(int argc, char **argv);
int command_evaluate(int argc, char **argv);
int command_recipes(int argc, char **argv);
int command_job(int argc, char **argv);

/* Prints "repquant: <what>: <why> [code]" on stderr and returns the exit code. */
int cli_fail(const struct err *e);
/* A usage error: the message and the command's synopsis; returns 2. */
int cli_usage(const char *synopsis, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * Options of one command: a table instead of a switch.  Values are whole, in
 * range, or refused.  `positional` arguments (exactly that many) go to ret_positional.
 */
struct cli_option {
    const char *name;                      /* "--threads" is written "threads" */
    enum { CLI_STRING, CLI_INT, CLI_BYTES, CLI_FLAG } type;
    void *value;                           /* const char **, int64_t *, int64_t *, bool * */
    int64_t lo, hi;
    bool required;
    const char *help;
};
/* False: *ret_exit is what the command returns (0 after --help, 2 after a usage error). */
bool cli_parse(const char *synopsis, const struct cli_option *options, size_t n, int argc, char **argv,
               const char **ret_positional, int positional, int *ret_exit);

/* Threads to use when none are asked for: the processors this process may run on. */
int cli_threads(int64_t asked);
/* Where a command without a folder of results keeps what it unpacks: $TMPDIR or /tmp. */
const char *cli_scratch_dir(void);

/* JSON to a stream, indented, with a newline at the end; decrefs. */
bool cli_print_json(FILE *to, json_t *value);

#endif
