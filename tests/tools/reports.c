/*
 * reports.c - linked into what is built with a sanitizer: what it finds is written to a file of build/<which>/reports, by whatever process.
 *
 * The process of a job has an empty environment, its standard error ends in a log, some are killed, and of some a test expects that they
 * fail; so neither a variable of the environment nor an exit status would tell.  scripts/run-unit and tests/api/conftest.py look there.
 * These are asked before the runtimes have started, hence no instrumentation.
 */
#define PLAIN __attribute__((no_sanitize("address", "thread", "undefined")))
/* Where memory is refused the programs say so themselves; sanitizers would abort first. */
#define OPTIONS "log_path=" REPORTS "/report:allocator_may_return_null=1"

const char *__asan_default_options(void);
const char *__tsan_default_options(void);

PLAIN const char *__asan_default_options(void) { return OPTIONS; }
/* Threads that live at the exit get a tenth of a second to be caught, not one for each of the daemon's jobs. */
PLAIN const char *__tsan_default_options(void) { return OPTIONS ":atexit_sleep_ms=100"; }
