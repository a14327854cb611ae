/* limit.h - who asks too often.  Every answer to a token tells what it has left. */
#ifndef API_LIMIT_H
#define API_LIMIT_H

#include "api/request.h"

/* One request of the asker's token.  ERR_RATE when it must wait. */
bool limit_token(struct app *app, const struct request *req, struct reply *reply, struct err *e);

/* One more attempt of this address with something that is no token.  ERR_RATE when it must wait. */
bool limit_guess(struct app *app, const struct request *req, struct reply *reply, struct err *e);

#endif
