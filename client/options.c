#include "client/options.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum kind { TEXT, NUMBER, FLAG, LIST };

#define AT(member) offsetof(struct options, member)
/* `commands`: which take it; NULL for all. */
static const struct option_row {
    const char *name, *value;
    enum kind kind;
    size_t at;
    int64_t lo, hi;
    const char *commands, *help;
} rows[] = {
    { "calibration", "DATA", TEXT, AT(calibration), 0, 0, "submit", "calibration samples: .npz, .npy, .safetensors, or a zip of pictures; few recipes do without" },
    { "evaluation", "DATA", TEXT, AT(evaluation), 0, 0, "submit", "samples on which the float and the quantized model are compared" },
    { "recipe", "NAME|FILE.json", TEXT, AT(recipe), 0, 0, "submit", "a preset (`repquant recipes`), what the team has saved (GET /v1/recipes), or a file" },
    { "name", "NAME", TEXT, AT(name), 0, 0, "submit", "the model's name in the service; its file name if absent" },
    { "label", "KEY=VALUE", LIST, 0, 0, 0, "submit", "a label of the job; up to 16" },
    { "priority", "N", NUMBER, AT(priority), 0, 9, "submit", "0 to 9, higher first; 5 if absent" },
    { "new", NULL, FLAG, AT(fresh), 0, 0, "submit", "a new job even if the same was submitted before" },
    { "wait", NULL, FLAG, AT(wait), 0, 0, "submit", "wait for the job's end and exit by it" },
    { "output", "DIR", TEXT, AT(output), 0, 0, "submit download", "where results go, made with the folders above it; download makes one named as the job if absent, submit wants --wait" },
    { "force", NULL, FLAG, AT(force), 0, 0, "submit download", "replace files of DIR that are different" },
    { "cancel-on-interrupt", NULL, FLAG, AT(cancel_on_interrupt), 0, 0, "submit wait", "Ctrl-C cancels the job; else it goes on" },
    { "timeout", "SECONDS", NUMBER, AT(timeout_s), 1, INT32_MAX, "submit wait events", "wait no longer; the job goes on" },
    { "follow", NULL, FLAG, AT(follow), 0, 0, "events", "go on until the job has ended" },
    { "after", "SEQ", NUMBER, AT(after), 0, INT64_MAX, "events", "only events with a greater number" },
    { "url", "URL", TEXT, AT(url), 0, 0, NULL, "the service, instead of REPQUANT_URL" },
    { "ca", "FILE", TEXT, AT(ca), 0, 0, NULL, "certificates to trust, in PEM, instead of the system's" },
    { "patience", "SECONDS", NUMBER, AT(patience_s), 0, 86400, NULL,
      "how long to repeat what fails in passing (no connection, 429, 503): 60; while waiting for a job 600" },
    { "json", NULL, FLAG, AT(json), 0, 0, NULL, "one JSON document on standard output, errors too" },
    { "quiet", NULL, FLAG, AT(quiet), 0, 0, NULL, "no progress" },
    { "help", NULL, FLAG, AT(help), 0, 0, NULL, "this text; after a command, what it takes" },
    { "version", NULL, FLAG, AT(version), 0, 0, NULL, "the version" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static bool takes(const struct option_row *row, const struct command *command)
{
    const char *at = row->commands && command ? strstr(row->commands, command->name) : NULL;
    return !row->commands || (at && (at == row->commands || at[-1] == ' '));
}

static bool usage(struct failure *f, const char *where, const char *text)
{
    return fail(f, EXIT_USAGE, "client.usage", where, "%s; `repquantctl --help` tells what there is", text);
}

static bool set_number(const struct option_row *row, const char *text, int64_t *ret, struct failure *f)
{
    char *end, where[64];
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && !errno && n >= row->lo && n <= row->hi) {
        *ret = n;
        return true;
    }
    snprintf(where, sizeof where, "--%s", row->name);
    return fail(f, EXIT_USAGE, "client.usage", where, "give a number from %lld to %lld, not \"%.40s\"", (long long)row->lo, (long long)row->hi, text);
}

static bool set(struct options *o, const struct option_row *row, const char *text, struct failure *f)
{
    void *at = (char *)o + row->at;
    switch (row->kind) {
    case TEXT: *(const char **)at = text; return *text || usage(f, row->name, "the value is empty");
    case FLAG: *(bool *)at = true; return true;
    case NUMBER: return set_number(row, text, at, f);
    case LIST: break;
    }
    if (o->nlabels == MAX_LABELS || !strchr(text, '=') || *text == '=')
        return usage(f, "--label", "a label is KEY=VALUE, and there are at most 16");
    o->labels[o->nlabels++] = text;
    return true;
}

static bool check_words(const struct options *o, const struct command *command, struct failure *f)
{
    char text[256];
    if (!command || o->help || (o->nwords >= command->least && o->nwords <= command->most))
        return true;
    snprintf(text, sizeof text, "write: repquantctl %s %s", command->name, command->arguments);
    return usage(f, o->nwords < command->least ? "an argument is missing" : "too many arguments", text);
}

static bool take_words(int argc, char **argv, struct options *o, const struct command **ret, struct failure *f)
{
    *ret = NULL;
    if (optind == argc)
        return true;
    for (int i = 0; i < commands_count && !*ret; i++)
        if (strcmp(commands[i].name, argv[optind]) == 0)
            *ret = &commands[i];
    if (!*ret)
        return usage(f, argv[optind], "there is no such command");
    for (int i = optind + 1; i < argc; i++) {
        if (o->nwords == MAX_FILES)
            return usage(f, argv[i], "a model has at most 256 files");
        o->words[o->nwords++] = argv[i];
    }
    return true;
}

bool options_parse(int argc, char **argv, struct options *ret, const struct command **ret_command, struct failure *f)
{
    struct option table[ROWS + 1] = { { 0 } };
    bool seen[ROWS] = { false };
    char where[64];
    *ret = (struct options){ .patience_s = -1, .priority = -1 };
    for (int i = 0; i < ROWS; i++)
        table[i] = (struct option){ rows[i].name, rows[i].value ? required_argument : no_argument, NULL, i };
    optind = 0;             /* GNU: begin anew */
    opterr = 0;
    for (int at; (at = getopt_long(argc, argv, ":", table, NULL)) != -1;) {      // NOLINT(concurrency-mt-unsafe): there is one thread
        if (at < 0 || at >= ROWS)
            return usage(f, argv[optind - 1], at == ':' ? "the option wants a value" : "there is no such option, or it takes no value");
        seen[at] = true;
        if (!set(ret, &rows[at], optarg, f))
            return false;
    }
    if (!take_words(argc, argv, ret, ret_command, f))
        return false;
    for (int i = 0; i < ROWS && *ret_command; i++) {
        snprintf(where, sizeof where, "--%s", rows[i].name);
        if (seen[i] && !takes(&rows[i], *ret_command))
            return usage(f, where, "this command does not take the option");
    }
    return check_words(ret, *ret_command, f);
}

static void help_option(FILE *to, const struct option_row *row)
{
    char left[64];
    snprintf(left, sizeof left, "--%s%s%s", row->name, row->value ? " " : "", row->value ? row->value : "");
    fprintf(to, "      %-24s %s\n", left, row->help);
}

static void help_command(FILE *to, const struct command *c)
{
    fprintf(to, "\n  repquantctl %s %s\n      %s\n", c->name, c->arguments, c->text);
    for (int i = 0; i < ROWS; i++)
        if (rows[i].commands && takes(&rows[i], c))
            help_option(to, &rows[i]);
}

void options_help(FILE *to, const struct command *command)
{
    fprintf(to, "NAME\n  repquantctl - quantize models with a repquantd, from a shell\n\nSYNOPSIS\n");
    for (int i = 0; i < commands_count; i++)
        if (!command || command == &commands[i])
            fprintf(to, "  repquantctl %-9s %s\n", commands[i].name, commands[i].summary);
    fprintf(to, "\nCOMMANDS");
    for (int i = 0; i < commands_count; i++)
        if (!command || command == &commands[i])
            help_command(to, &commands[i]);
    fprintf(to, "\nOPTIONS OF EVERY COMMAND\n");
    for (int i = 0; i < ROWS; i++)
        if (!rows[i].commands)
            help_option(to, &rows[i]);
    fprintf(to,
            "\nENVIRONMENT\n"
            "  REPQUANT_URL     the service; else that of the last login, else http://127.0.0.1:8080\n"
            "  REPQUANT_TOKEN   the token; else that of the login at this URL\n"
            "  REPQUANT_CA      as --ca\n"
            "\nFILES\n"
            "  $XDG_CONFIG_HOME/repquant/login.json    tokens by URL, readable by you only (~/.config without XDG_CONFIG_HOME)\n"
            "  $XDG_CACHE_HOME/repquant/uploads/       where interrupted uploads stand (~/.cache without XDG_CACHE_HOME)\n"
            "\nEXIT STATUS\n"
            "  0  done\n  1  the input is at fault, or the job failed or was canceled\n  2  usage\n"
            "  3  the environment: network, token, quota, disk, the service\n  130  interrupted; the job goes on\n");
}
