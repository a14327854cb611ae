#include "core/cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int cli_fail(const struct err *e)
{
    fprintf(stderr, "repquant: %s%s%s [%s]\n", e->where, e->where[0] ? ": " : "", e->text, err_slug(e->code));
    return err_exit_code(e->code);
}

int cli_usage(const char *synopsis, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "repquant: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\nusage: repquant %s\n", synopsis);
    va_end(ap);
    return err_exit_code(ERR_REQUEST_INVALID);
}

static void print_help(const char *synopsis, const struct cli_option *options, size_t n)
{
    printf("usage: repquant %s\n\n", synopsis);
    for (size_t i = 0; i < n; i++)
        printf("  --%-14s %s\n", options[i].name, options[i].help);
    printf("  --%-14s %s\n", "help", "this text");
}

/* "512", "512M", "2G": bytes with a binary suffix. */
static bool parse_number(const char *text, bool bytes, int64_t lo, int64_t hi, int64_t *ret)
{
    char *end;
    errno = 0;
    long long x = strtoll(text, &end, 10);
    if (end == text || errno)
        return false;
    const char *suffixes = "KMGT", *at = bytes && *end ? strchr(suffixes, *end) : NULL;
    for (const char *s = suffixes; at && s <= at; s++)
        if (__builtin_mul_overflow(x, 1024, &x))
            return false;
    end += at != NULL;
    if (*end || x < lo || x > hi)
        return false;
    *ret = x;
    return true;
}

static bool set_option(const struct cli_option *o, const char *text)
{
    switch (o->type) {
    case CLI_STRING: *(const char **)o->value = text; return true;
    case CLI_FLAG: *(bool *)o->value = true; return true;
    default: return parse_number(text, o->type == CLI_BYTES, o->lo, o->hi, o->value);
    }
}

enum { MAX_OPTIONS = 24 };

/* The number of positional arguments, or -1 with *ret_exit set. */
static int parse_options(const char *synopsis, const struct cli_option *options, size_t n, int argc, char **argv,
                         bool *seen, int *ret_exit)
{
    struct option table[MAX_OPTIONS + 2] = { { 0 } };
    for (size_t i = 0; i < n; i++)
        table[i] = (struct option){ options[i].name, options[i].type == CLI_FLAG ? no_argument : required_argument, NULL, (int)i };
    table[n] = (struct option){ "help", no_argument, NULL, MAX_OPTIONS };
    optind = 1;
    opterr = 0;
    for (int at; (at = getopt_long(argc, argv, "", table, NULL)) != -1; ) {     // NOLINT(concurrency-mt-unsafe): no threads yet
        if (at == MAX_OPTIONS) {
            print_help(synopsis, options, n);
            *ret_exit = 0;
            return -1;
        }
        if (at < 0 || at >= (int)n) {
            *ret_exit = cli_usage(synopsis, "unknown option or missing value: %s", argv[optind - 1]);
            return -1;
        }
        seen[at] = true;
        if (!set_option(&options[at], optarg)) {
            *ret_exit = cli_usage(synopsis, "--%s must be a number from %lld to %lld, not \"%s\"", options[at].name,
                                  (long long)options[at].lo, (long long)options[at].hi, optarg);
            return -1;
        }
    }
    return argc - optind;
}

bool cli_parse(const char *synopsis, const struct cli_option *options, size_t n, int argc, char **argv,
               const char **ret_positional, int positional, int *ret_exit)
{
    bool seen[MAX_OPTIONS + 1] = { false };
    int found = parse_options(synopsis, options, n, argc, argv, seen, ret_exit);
    if (found < 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if (options[i].required && !seen[i]) {
            *ret_exit = cli_usage(synopsis, "--%s is missing", options[i].name);
            return false;
        }
    if (found != positional) {
        *ret_exit = cli_usage(synopsis, found < positional ? "an argument is missing" : "too many arguments");
        return false;
    }
    for (int i = 0; i < positional; i++)
        ret_positional[i] = argv[optind + i];
    return true;
}

const char *cli_scratch_dir(void)
{
    const char *dir = getenv("TMPDIR");
    return dir && *dir ? dir : "/tmp";
}

int cli_threads(int64_t asked)
{
    cpu_set_t set;
    if (asked)
        return (int)asked;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : n > 64 ? 64 : n;
}

bool cli_print_json(FILE *to, json_t *value)
{
    bool ok = value && json_dumpf(value, to, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0 && fputc('\n', to) != EOF;
    json_decref(value);
    return ok;
}
