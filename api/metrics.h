/* metrics.h - what is counted of requests, and GET /metrics. */
#ifndef API_METRICS_H
#define API_METRICS_H

#include "api/request.h"

/* Who may read /metrics without a token. */
enum metrics_for { METRICS_LOCAL, METRICS_NOBODY, METRICS_EVERYBODY };

/* Whether this request, which is for /metrics, needs none. */
bool metrics_open(const struct app *app, const struct request *req);

/* A request has ended; status 0: without an answer. */
void metrics_request(const struct request *req, int status, double seconds, bool stream);

#endif
