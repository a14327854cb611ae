/*
 * either_job.c - repquant or its stand-in, as the input says: a daemon has one program, and a soak wants both.
 *
 * An input that begins with a script of fake_job.c is fake_job's; any other is repquant's own, which is linked in (core/main.c with its main() under
 * another name), because in the sandbox no program may start another.
 */
#define FAKE_JOB_IS_PART_OF_A_TEST
#include "tests/tools/fake_job.c"

int repquant_main(int argc, char **argv);

static bool begins_with_a_script(const json_t *task)
{
    char line[SCRIPT_MAX];
    return script_of_input(task, "#quantize ", line, sizeof line) || script_of_input(task, "#inspect ", line, sizeof line);
}

/* Only a job has an input; `repquant --version` and its like are the daemon's questions. */
static bool is_fake(int argc, char **argv)
{
    if (argc < 3 || strcmp(argv[1], "job") != 0 || chdir(argv[argc - 1]) != 0)
        return false;
    json_t *task = read_task();
    bool fake = task && begins_with_a_script(task);
    json_decref(task);
    return fake;
}

int main(int argc, char **argv) { return is_fake(argc, argv) ? fake_job_main(argc, argv) : repquant_main(argc, argv); }
