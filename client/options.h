/*
 * options.h - the command line: one table of commands and one of options make the parser and the help.
 */
#ifndef CLIENT_OPTIONS_H
#define CLIENT_OPTIONS_H

#include "client/failure.h"

#include <stdint.h>
#include <stdio.h>

enum { MAX_FILES = 257, MAX_LABELS = 16 };

struct options {
    const char *words[MAX_FILES];       /* what is neither command nor option */
    int nwords;
    bool json, quiet, help, version;
    const char *url, *ca;
    int64_t patience_s;                 /* -1: the command's own */
    const char *calibration, *evaluation, *recipe, *name, *output;
    const char *labels[MAX_LABELS];     /* "k=v" */
    int nlabels;
    int64_t priority, timeout_s, after;
    bool wait, fresh, cancel_on_interrupt, follow, force;
};

struct client;

struct command {
    const char *name, *arguments, *summary, *text;
    int least, most;                    /* words it takes */
    int (*run)(struct client *c);       /* the exit code */
};
extern const struct command commands[];
extern const int commands_count;

/* *ret_command is NULL where none was named.  False: a usage error in f.  The strings of argv stay in use; their order changes. */
bool options_parse(int argc, char **argv, struct options *ret, const struct command **ret_command, struct failure *f);

/* The whole manual, or that of one command. */
void options_help(FILE *to, const struct command *command);

#endif
