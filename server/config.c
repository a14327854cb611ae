/*
 * config.c - every option, once: name, default, limits, meaning.
 *
 * The table is the single source for the flags, the REPQUANT_* environment variables (the name in capitals,
 * '-' as '_') and --help.  Later sources win: default, then environment, then command line.
 */
#include "server/config.h"

#include "core/base/version.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { STR, INT, SIZE, BOOL };     /* SIZE takes K, M, G and T; BOOL takes on and off */

static const struct option {
    const char *name;
    enum kind kind;
    size_t at;
    const char *fallback;
    int64_t lo, hi;                     /* INT and SIZE only, inclusive */
    const char *help;
} options[] = {
#define AT(field) offsetof(struct config, field)
    { "listen", STR, AT(listen), "127.0.0.1", 0, 0, "address to listen on; beyond loopback only with --auth=on" },
    { "port", INT, AT(port), "8080", 0, 65535, "TCP port; 0 takes any free one and prints it" },
    { "port-file", STR, AT(port_file), "", 0, 0, "file to write the port to when listening" },
    { "hosts", STR, AT(hosts), "", 0, 0, "names the service is reached by, separated by commas; loopback names always are" },
    { "tls-cert", STR, AT(tls_cert), "", 0, 0, "PEM file of the certificate and those that vouch for it: speak HTTPS and nothing else" },
    { "tls-key", STR, AT(tls_key), "", 0, 0, "PEM file of its private key" },
    { "plain-http", BOOL, AT(plain_http), "off", 0, 0, "whether to listen beyond loopback without TLS, behind a proxy that has it" },
    { "trusted-proxies", STR, AT(trusted_proxies), "", 0, 0, "addresses or networks of proxies whose X-Forwarded-For is believed, separated by commas" },
    { "proxy-secret-file", STR, AT(proxy_secret_file), "", 0, 0, "file with what such a proxy sends as X-Repquant-Proxy-Secret, so that its X-Forwarded-User is believed" },
    { "data", STR, AT(data), "/var/lib/repquant", 0, 0, "data folder, on a local disk" },
    { "auth", BOOL, AT(auth), "on", 0, 0, "whether requests need a token" },
    { "rate", INT, AT(rate), "200", 0, 1000000, "requests one token may make a second, on average; 0: no limit" },
    { "rate-burst", INT, AT(rate_burst), "1000", 1, 1000000, "requests one token may make at once, after a rest" },
    { "guesses", INT, AT(guesses), "10", 0, 100000, "invalid tokens one address may send a second; 0: no limit" },
    { "max-upload", SIZE, AT(max_upload), "8G", 1 << 10, INT64_C(1) << 44, "bytes of one upload" },
    { "uploads", INT, AT(uploads), "100", 1, 100000, "unfinished uploads a team may have" },
    { "upload-expiry", INT, AT(upload_seconds), "86400", 1, 31 * 86400, "seconds an unfinished upload is kept after its last part" },
    { "keep-free", SIZE, AT(keep_free), "256M", 0, INT64_C(1) << 44, "bytes of disk that uploads and jobs may not take" },
    { "import-hosts", STR, AT(import_hosts), "", 0, 0, "hosts that files are imported from (name, name:port, *.name); none: imports are off" },
    { "import-timeout", INT, AT(import_seconds), "3600", 1, 7 * 86400, "seconds one import may take" },
    { "outbound-private", STR, AT(outbound_private), "", 0, 0, "networks to connect to although they are not public, as 10.1.0.0/16" },
    { "outbound-ca", STR, AT(outbound_ca), "", 0, 0, "file of certificates to trust in outgoing requests; default: the system's" },
    { "connections", INT, AT(connections), "1024", 0, 1000000, "connections one address may have at a time, trusted proxies aside; 0: no limit" },
    { "public-url", STR, AT(public_url), "", 0, 0, "where clients reach the service, as https://repquant.example: sources and links in webhooks begin with it" },
    { "webhooks", INT, AT(webhooks), "20", 0, 10000, "webhooks a team may have, those of single jobs aside" },
    { "webhook-retries", STR, AT(webhook_retries), "5,300,1800,7200,18000,36000,50400,72000,86400", 0, 0, "seconds from one attempt to deliver to the next, separated by commas" },
    { "webhook-timeout", INT, AT(webhook_seconds), "15", 1, 60, "seconds one attempt may take" },
    { "event-readers", INT, AT(event_readers), "2000", 2, 100000, "streams of events and long polls at a time; of one token half of them" },
    { "event-heartbeat", INT, AT(event_heartbeat), "15", 1, 300, "seconds after which a stream of events that has nothing to tell sends a comment" },
    { "drain-notice", INT, AT(drain_notice), "0", 0, 300, "seconds that /readyz says so before a shutdown begins, for load balancers to hear of it" },
    { "drain", INT, AT(drain_seconds), "30", 0, 3600, "seconds that open requests get at shutdown" },
    { "repquant", STR, AT(repquant), "", 0, 0, "the program that computes; default: next to repquantd" },
    { "workers", INT, AT(workers), "1", 1, 64, "jobs at a time" },
    { "threads", INT, AT(threads), "0", 0, 64, "threads of one job; 0: processors / workers" },
    { "memory", SIZE, AT(memory), "1G", 1 << 20, INT64_C(1) << 44, "bytes of activations one job keeps in memory" },
    { "address-space", SIZE, AT(address_space), "0", 0, INT64_MAX, "bytes one job may map; 0: from its inputs" },
    { "jobs-memory", SIZE, AT(jobs_memory), "0", 0, INT64_C(1) << 50, "bytes all running jobs may take, by estimate; 0: 80 % of the machine's" },
    { "job-timeout", INT, AT(job_seconds), "86400", 1, 31 * 86400, "seconds one attempt of a job may take" },
    { "inspect-timeout", INT, AT(inspect_seconds), "120", 1, 3600, "seconds looking into an upload may take" },
    { "silence-timeout", INT, AT(silence_seconds), "60", 1, 3600, "seconds after which a silent job is taken for hung" },
    { "sandbox", STR, AT(sandbox), "best-effort", 0, 0, "Landlock and seccomp around jobs: required (else do not start), best-effort (what the kernel has) or off" },
    { "cgroup", STR, AT(cgroup), "auto", 0, 0, "cgroup v2 folder for groups of jobs' processes, auto (the daemon's own, if delegated by systemd) or off; off too without a sandbox" },
    { "keep-jobs", INT, AT(keep_jobs), "0", 0, 36500, "days that ended jobs are kept; 0: for ever" },
    { "keep-events", INT, AT(keep_events), "90", 0, 36500, "days that events of ended jobs are kept; 0: as long as the job" },
    { "keep-artifacts", INT, AT(keep_artifacts), "0", 0, 36500, "days that artifacts are kept; 0: as long as their job" },
    { "keep-deliveries", INT, AT(keep_deliveries), "30", 0, 36500, "days that deliveries to webhooks are kept in their log; 0: as long as the webhook" },
    { "keep-audit", INT, AT(keep_audit), "0", 0, 36500, "days that rows of the audit log are kept, at least; 0: for ever" },
    { "scrub-days", INT, AT(scrub_days), "7", 0, 36500, "days in which all stored files are read once and compared with their digests; 0: never" },
    { "metrics", STR, AT(metrics), "local", 0, 0, "who may read /metrics without a token: local (this machine), nobody or everybody" },
    { "log-level", STR, AT(log_level), "info", 0, 0, "debug, info, warn or error" },
    { "log-format", STR, AT(log_format), "json", 0, 0, "json, or text for people" },
#undef AT
};
enum { OPTIONS = sizeof options / sizeof options[0] };

/* ---- one value ---- */

static int64_t unit_of(const char *suffix)
{
    static const char units[] = "KMGT";
    const char *at = suffix[0] && !suffix[1] ? strchr(units, toupper((unsigned char)suffix[0])) : NULL;
    return at && *at ? INT64_C(1) << 10 * (at - units + 1) : suffix[0] ? 0 : 1;
}

static bool parse_number(const struct option *o, const char *text, int64_t *ret, struct err *e)
{
    char *end;
    int64_t n;
    errno = 0;
    long long x = strtoll(text, &end, 10);
    int64_t unit = o->kind == SIZE ? unit_of(end) : *end == '\0';
    bool ok = errno == 0 && end != text && unit && !__builtin_mul_overflow(x, unit, &n) && n >= o->lo && n <= o->hi;
    if (!ok)
        return err_set(e, ERR_CONFIG, o->name, "\"%.60s\" is not an integer from %lld to %lld%s", text, (long long)o->lo,
                       (long long)o->hi, o->kind == SIZE ? " (K, M, G and T may follow)" : "");
    *ret = n;
    return true;
}

static bool parse_bool(const struct option *o, const char *text, bool *ret, struct err *e)
{
    bool on = strcmp(text, "on") == 0;
    if (!on && strcmp(text, "off") != 0)
        return err_set(e, ERR_CONFIG, o->name, "\"%.60s\" is neither on nor off", text);
    *ret = on;
    return true;
}

static bool set(struct config *c, const struct option *o, const char *text, struct err *e)
{
    char *field = (char *)c + o->at;
    switch (o->kind) {
    case STR: *(const char **)(void *)field = text; return true;
    case BOOL: return parse_bool(o, text, (bool *)field, e);
    default: return parse_number(o, text, (int64_t *)(void *)field, e);
    }
}

/* ---- the sources ---- */

static bool from_defaults(struct config *c, struct err *e)
{
    bool ok = true;
    for (int i = 0; ok && i < OPTIONS; i++)
        ok = set(c, &options[i], options[i].fallback, e);
    return ok;
}

static const char *variable(const struct option *o, char *buf, size_t size)
{
    size_t n = (size_t)snprintf(buf, size, "REPQUANT_");
    for (const char *s = o->name; *s && n + 1 < size; s++)
        buf[n++] = *s == '-' ? '_' : (char)toupper((unsigned char)*s);
    buf[n] = '\0';
    return buf;
}

static bool from_environment(struct config *c, struct err *e)
{
    char name[64];
    bool ok = true;
    for (int i = 0; ok && i < OPTIONS; i++) {
        const char *text = getenv(variable(&options[i], name, sizeof name));
        ok = !text || set(c, &options[i], text, e);
    }
    return ok;
}

static const struct option *find(const char *name, size_t n)
{
    for (int i = 0; i < OPTIONS; i++)
        if (strlen(options[i].name) == n && memcmp(options[i].name, name, n) == 0)
            return &options[i];
    return NULL;
}

/* --name=value or --name value */
static bool from_flags(struct config *c, int argc, char **argv, struct err *e)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (strncmp(name, "--", 2) != 0)
            return err_set(e, ERR_CONFIG, name, "an option was expected; see repquantd --help");
        name += 2;
        size_t n = strcspn(name, "=");
        const struct option *o = find(name, n);
        if (!o)
            return err_set(e, ERR_CONFIG, argv[i], "there is no such option; see repquantd --help");
        const char *value = name[n] == '=' ? name + n + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (!value)
            return err_set(e, ERR_CONFIG, argv[i], "a value must follow");
        if (!set(c, o, value, e))
            return false;
    }
    return true;
}

/* ---- together ---- */

static bool loopback(const char *address)
{
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, address, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, address, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

static bool numeric(const char *address)
{
    unsigned char any[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, address, any) == 1 || inet_pton(AF_INET6, address, any) == 1;
}

static bool check(const struct config *c, struct err *e)
{
    if (!numeric(c->listen))
        return err_set(e, ERR_CONFIG, "listen", "\"%.60s\" is not an IP address; host names are not looked up", c->listen);
    if (!c->auth && !loopback(c->listen))
        return err_set(e, ERR_CONFIG, "auth", "without tokens anybody who reaches %s could use the service; use --auth=on or listen on 127.0.0.1",
                       c->listen);
    if (!c->tls_cert[0] != !c->tls_key[0])
        return err_set(e, ERR_CONFIG, c->tls_cert[0] ? "tls-key" : "tls-cert", "give --tls-cert and --tls-key, or neither");
    if (!c->tls_cert[0] && !c->plain_http && !loopback(c->listen))
        return err_set(e, ERR_CONFIG, "plain-http", "whoever listens on the way to %s could read the tokens; give --tls-cert and --tls-key, or"
                       " --plain-http=on where a proxy with TLS stands in front", c->listen);
    if (!c->data[0])
        return err_set(e, ERR_CONFIG, "data", "give the data folder");
    return true;
}

bool config_load(struct config *c, int argc, char **argv, struct err *e)
{
    *c = (struct config){ 0 };
    return from_defaults(c, e) && from_environment(c, e) && from_flags(c, argc, argv, e) && check(c, e);
}

static void help(void)
{
    char name[64];
    printf("usage: repquantd [--OPTION=VALUE]...\n\nServes the quantizer over HTTP.  Each option can also be given in the environment.\n\n"
           "       repquantd backup TO [--data=FOLDER]       copies the data folder to the folder TO, also while it is served\n"
           "       repquantd verify FOLDER                   reads a backup, or a data folder that is served, and names all damage\n"
           "       repquantd restore FROM [--data=FOLDER]    makes a data folder, which must be empty, of a backup\n\n");
    for (int i = 0; i < OPTIONS; i++)
        printf("  --%-16s %s\n  %-18s %s%s%s\n", options[i].name, options[i].help, "", variable(&options[i], name, sizeof name),
               options[i].fallback[0] ? ", default " : "", options[i].fallback);
}

bool config_told(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            help();
        else if (strcmp(argv[i], "--version") == 0)
            printf("repquantd %s\n", engine_version);
        else
            continue;
        return true;
    }
    return false;
}
