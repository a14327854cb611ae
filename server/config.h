/*
 * config.h - what the person who starts the daemon may choose.  Every option is one row of the
 * table in config.c: its flag, its environment variable, its default, its range and its help.
 */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include "core/base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct config {
    const char *listen;             /* address; a host name is not looked up */
    int64_t port;                   /* 0: any free one */
    const char *port_file;          /* written when listening; "": none */
    const char *hosts;              /* names it is reached by, beside the loopback ones; separated by commas */
    const char *tls_cert, *tls_key; /* PEM files; "": plain HTTP */
    bool plain_http;                /* beyond loopback too */
    const char *trusted_proxies;    /* addresses and networks, separated by commas */
    const char *proxy_secret_file;  /* what a trusted proxy shows to be believed about who logged in; "": nobody is */
    const char *data;               /* the data folder */
    bool auth;
    int64_t rate, rate_burst;       /* requests of one token a second, and at once; rate 0: no limit */
    int64_t guesses;                /* invalid tokens from one address a second; 0: no limit */
    int64_t max_upload;             /* bytes of one upload */
    int64_t uploads;                /* unfinished ones of one team */
    int64_t upload_seconds;         /* an unfinished upload is kept after its last part */
    int64_t keep_free;              /* bytes of disk that uploads and jobs leave alone */
    const char *import_hosts;       /* hosts to import from, separated by commas; "": imports are off */
    int64_t import_seconds;         /* for one import */
    const char *outbound_private;   /* networks that may be connected to although they are not public */
    const char *outbound_ca;        /* certificates to trust; "": the system's */
    int64_t connections;            /* of one address; 0: any number */
    const char *public_url;         /* what links in webhooks begin with; "": they are paths */
    int64_t webhooks;               /* of one team, those of single jobs aside */
    const char *webhook_retries;    /* seconds from one attempt to the next, separated by commas */
    int64_t webhook_seconds;        /* for one attempt */
    int64_t event_readers;          /* streams of events and long polls at a time */
    int64_t event_heartbeat;        /* seconds after which a stream that has nothing to say says so */
    int64_t drain_notice;           /* seconds between telling of a shutdown and beginning it */
    int64_t drain_seconds;          /* for open requests at shutdown */

    const char *repquant;           /* the program that computes; "": next to repquantd */
    int64_t workers;                /* jobs at a time */
    int64_t threads;                /* of one job; 0: all processors / workers */
    int64_t memory;                 /* bytes of activations one job may keep in memory */
    int64_t address_space;          /* bytes, RLIMIT_AS of a job; 0: from threads and memory */
    int64_t jobs_memory;            /* bytes all running jobs may take by their estimates; 0: of the machine's, see task_jobs_memory() */
    int64_t job_seconds;            /* a job's deadline */
    int64_t inspect_seconds;        /* deadline of looking into an upload */
    int64_t silence_seconds;        /* a child silent for so long hangs */
    int64_t keep_jobs, keep_events, keep_artifacts;     /* days after a job's end; 0: for ever */
    const char *sandbox;            /* see server/sandbox.h */
    const char *cgroup;             /* see server/cgroup.h */
    int64_t keep_deliveries;        /* days after they were made; 0: for ever */
    int64_t keep_audit;             /* days; 0: for ever */
    int64_t scrub_days;             /* in which every stored byte is read and compared once; 0: never */
    const char *metrics;            /* who may read them without a token */
    const char *log_level, *log_format;

    /* No option, but what became of one: where children get control groups; NULL: nowhere. */
    const struct cgroups *cgroups;
};

/*
 * Defaults, then REPQUANT_* of the environment, then the flags.  Strings are borrowed from argv and the
 * environment.  Refuses what is unsafe together, such as --auth=off or plain HTTP on an address others can reach.
 */
bool config_load(struct config *c, int argc, char **argv, struct err *e);

/* Whether argv asks for --help or --version; then it has been printed. */
bool config_told(int argc, char **argv);

#endif
