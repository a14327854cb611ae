/* main.c - the program `repquantctl`: start here.  A person's and a pipeline's remote control of a repquantd. */
#include "client/client.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

const struct command commands[] = {
    { "submit", "MODEL.onnx [FILE...] --recipe NAME|FILE.json [--calibration DATA] [options]", "upload what is missing, ask for a quantization",
      "FILE... are the model's external data. What the team owns already is not sent again. Prints the job's id.", 1, MAX_FILES - 1,
      command_submit },
    { "status", "[JOB]", "a job's state and results, or the latest jobs", "Exits 0 whatever the job's state is.", 0, 1, command_status },
    { "wait", "JOB", "wait for a job's end and exit by it", "Shows progress; goes on while the service is restarted.", 1, 1, command_wait },
    { "events", "JOB", "what happened, a line an event", "With --json and --follow, one document at the job's end.", 1, 1, command_events },
    { "download", "JOB", "fetch a job's results",
      "Goes on where it was broken off, verifies SHA-256, and puts each file in place when it is complete.", 1, 1, command_download },
    { "cancel", "JOB", "end a job", "Exits 0 if it is or will be canceled.", 1, 1, command_cancel },
    { "login", "", "keep a token for a service",
      "Reads the token from standard input, asks the service whether it is valid, and keeps it for --url or REPQUANT_URL.", 0, 0, command_login },
};
const int commands_count = sizeof commands / sizeof *commands;

static int run(struct client *c, const struct command *command)
{
    if (c->o.version)
        return puts("repquantctl " VERSION) < 0 ? EXIT_ENVIRONMENT : EXIT_DONE;
    if (c->o.help || !command) {
        options_help(c->o.help ? stdout : stderr, command);
        return c->o.help ? EXIT_DONE : EXIT_USAGE;
    }
    interrupt_init();
    return command->run(c);
}

/* Looked for first: what is wrong with the other options is to be said in JSON, too. */
static bool asks_json(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0)
            return true;
    return false;
}

/* Could all of standard output be written?  That its reader has left is no news to the one who reads. */
static bool told_all(void)
{
    if (fflush(stdout) == 0)
        return !ferror(stdout);
    if (errno != EPIPE)
        perror("repquantctl: standard output");
    return false;
}

int main(int argc, char **argv)
{
    static struct client c;
    const struct command *command;
    (void)signal(SIGPIPE, SIG_IGN);
    json_object_seed(0);
    bool json = asks_json(argc, argv);
    int code = options_parse(argc, argv, &c.o, &command, &c.f) ? EXIT_DONE : EXIT_USAGE;
    c.o.json = c.o.json || json;
    c.terminal = !c.o.json && !c.o.quiet && isatty(STDERR_FILENO);
    code = code ? client_failed(&c) : run(&c, command);
    service_close(&c.service);
    return told_all() ? code : EXIT_ENVIRONMENT;
}
