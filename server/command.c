#include "server/command.h"

#include "server/config.h"
#include "storage/backup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void tell_damage(void *arg, const struct err *damage)
{
    (void)arg;
    printf("damaged: %s: %s\n", damage->where, damage->text);
}

static void say(const char *what, const char *folder, const struct backup_sum *sum)
{
    printf("%s %s: %llu files of %llu bytes", what, folder, (unsigned long long)sum->blobs, (unsigned long long)sum->bytes);
}

static bool run_backup(const char *folder, const struct config *c, struct err *e)
{
    struct backup_sum sum;
    if (!backup_make(c->data, folder, VERSION, &sum, e))
        return false;
    say("backup in", folder, &sum);
    printf(" and the database; %llu were new\n", (unsigned long long)sum.copied);
    return true;
}

static bool run_verify(const char *folder, const struct config *c, struct err *e)
{
    struct backup_sum sum;
    (void)c;
    if (!backup_verify(folder, tell_damage, NULL, &sum, e))
        return false;
    say("verified", folder, &sum);
    printf(" and the database, all whole\n");
    return true;
}

static bool run_restore(const char *folder, const struct config *c, struct err *e)
{
    struct backup_sum sum;
    if (!backup_restore(folder, c->data, &sum, e))
        return false;
    say("restored to", c->data, &sum);
    printf(" and the database; start repquantd on it\n");
    return true;
}

static const struct command {
    const char *name;
    bool (*run)(const char *folder, const struct config *c, struct err *e);
} commands[] = {
    { "backup", run_backup },
    { "verify", run_verify },
    { "restore", run_restore },
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

bool command_called(int argc, char **argv) { return argc > 1 && argv[1][0] != '-'; }

static bool run(int argc, char **argv, struct err *e)
{
    struct config c;
    const struct command *found = NULL;
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, argv[1]) == 0)
            found = &commands[i];
    if (!found)
        return err_set(e, ERR_CONFIG, argv[1], "there is no such command; see repquantd --help");
    if (argc < 3 || argv[2][0] == '-' || !argv[2][0])
        return err_set(e, ERR_CONFIG, argv[1], "name a folder after it; see repquantd --help");
    return config_load(&c, argc - 2, argv + 2, e) && found->run(argv[2], &c, e);
}

int command_main(int argc, char **argv)
{
    struct err e = { 0 };
    umask(077);
    if (run(argc, argv, &e))
        return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    (void)fflush(stdout);
    fprintf(stderr, "repquantd %s: %s%s%s\n", argv[1], e.where, *e.where ? ": " : "", e.text);
    return err_exit_code(e.code);
}
