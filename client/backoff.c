#include "client/backoff.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_MS = 250, MOST_MS = 15000, MOST_RETRY_AFTER = 3600 };

static volatile sig_atomic_t caught;
static int wakeup[2] = { -1, -1 };      /* the handler writes, pause_ms() polls: no signal falls between check and wait */

int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void on_signal(int number)
{
    int saved = errno;
    if (caught)
        _exit(128 + number);
    caught = number;
    ssize_t n = write(wakeup[1], "", 1);
    (void)n;
    errno = saved;
}

void interrupt_init(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    sigemptyset(&action.sa_mask);
    if (pipe2(wakeup, O_CLOEXEC | O_NONBLOCK) != 0)
        return;                         /* then a Ctrl-C just ends us */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool interrupted(void) { return caught != 0; }

void interrupt_forget(void)
{
    char byte;
    while (read(wakeup[0], &byte, 1) == 1)
        continue;
    caught = 0;
}

bool pause_ms(int64_t ms)
{
    int64_t end = now_ms() + ms;
    struct pollfd woken = { .fd = wakeup[0], .events = POLLIN };
    for (int64_t left = ms; left > 0 && !caught; left = end - now_ms())
        (void)poll(&woken, 1, (int)left);
    return !caught;
}

int64_t backoff_delay(int n, int wait_s, uint32_t random)
{
    int64_t most = n < 6 ? (int64_t)FIRST_MS << n : MOST_MS;
    if (most > MOST_MS)
        most = MOST_MS;
    int64_t delay = most / 2 + random % (most / 2 + 1), asked = (int64_t)wait_s * 1000;
    return delay < asked ? asked + random % FIRST_MS : delay;
}

bool backoff_again(struct backoff *b, struct failure *f)
{
    uint32_t random = 0;
    if (!f->again)
        return false;
    ssize_t n = getrandom(&random, sizeof random, GRND_NONBLOCK);
    (void)n;
    int64_t delay = backoff_delay(b->tries++, f->wait_s, random), now = now_ms();
    if (!b->since)
        b->since = now;
    if (now + delay - b->since > b->patience_ms || (b->until && now >= b->until))
        return false;
    if (b->until && delay > b->until - now)
        delay = b->until - now;
    if (b->tell)
        b->tell(b->arg, f);
    *f = (struct failure){ 0 };
    return pause_ms(delay) || fail(f, EXIT_INTERRUPTED, "client.interrupted", "", "interrupted");
}

void backoff_reset(struct backoff *b)
{
    b->since = 0;
    b->tries = 0;
}

int retry_after(const char *text, int64_t now)
{
    struct tm date = { 0 };
    char *end;
    if (*text >= '0' && *text <= '9') {
        long seconds = strtol(text, &end, 10);
        return *end ? 0 : seconds > MOST_RETRY_AFTER ? MOST_RETRY_AFTER : (int)seconds;
    }
    const char *rest = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &date);
    if (!rest || *rest)
        return 0;
    int64_t left = (int64_t)timegm(&date) - now;
    return left < 0 ? 0 : left > MOST_RETRY_AFTER ? MOST_RETRY_AFTER : (int)left;
}
