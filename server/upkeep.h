/*
 * upkeep.h - what the daemon does beside answering, in main's thread.
 *
 *     upkeep_begin() ---> upkeep_turn() once a second ---> upkeep_end()
 *
 * A turn writes down what was refused and who asked, drops what is out of date, gives back memory, and reads a little of what is stored;
 * at the beginning and once an hour it sweeps as well.  What goes wrong is logged, and tried again the next time.
 */
#ifndef SERVER_UPKEEP_H
#define SERVER_UPKEEP_H

#include "server/config.h"
#include "storage/scrub.h"

struct upkeep {
    const struct config *config;
    struct store *store;
    struct scrub scrub;
    int64_t swept_at, trimmed_at;
};

/* Both must outlive it. */
void upkeep_begin(struct upkeep *u, struct store *s, const struct config *c);
void upkeep_turn(struct upkeep *u);
/* {0} is fine, too. */
void upkeep_end(struct upkeep *u);

#endif
