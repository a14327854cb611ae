/* handlers.h - the functions of the route table, by the file that has them.  method_resource. */
#ifndef API_HANDLERS_H
#define API_HANDLERS_H

#include "api/route.h"

handler get_page, get_dashboard_file;                                                             /* pages.c */
handler get_healthz, get_readyz, get_openapi, get_capabilities, get_queue, get_queue_history;     /* service.c */
handler get_metrics;                                                                              /* metrics.c */
handler put_blob, get_blob;                                                                       /* blobs.c */
handler post_upload, patch_upload, get_upload, delete_upload, post_import;                        /* uploads.c */
handler list_models, post_model, put_model, get_model, delete_model;                              /* assets.c */
handler list_datasets, post_dataset, put_dataset, get_dataset, delete_dataset, post_validation;
handler list_recipes, post_recipe, get_recipe, delete_recipe;                                     /* recipes.c */
handler list_jobs, get_job, post_job_cancel, delete_job;                                          /* jobs.c */
handler post_job, post_job_retry;                                                                 /* submit.c */
handler list_job_events;                                                                          /* events.c */
handler get_job_logs;                                                                             /* joblog.c */
handler list_job_layers, get_layer_details, get_job_report;                                       /* results.c */
handler list_job_artifacts, get_artifact, get_artifact_content;                                   /* artifacts.c */
handler get_whoami, post_token, list_tokens, get_token, delete_token;                             /* tokens.c */
handler post_team, list_teams, get_team, delete_team, put_team_quota;                             /* teams.c */
handler post_webhook, list_webhooks, get_webhook, patch_webhook, delete_webhook;                  /* webhooks.c */
handler post_webhook_rotation, post_webhook_ping, list_deliveries, get_delivery, post_redelivery;
handler get_audit;                                                                                /* audit.c */
handler post_session, get_session, delete_session, list_sessions, delete_one_session;             /* sessions.c */

/* The answer of get_job() without looking, if it is still true; quick enough for any thread. */
bool job_at_hand(struct app *app, struct request *req, struct reply *reply);
/* That of get_readyz(), if all was well a moment ago; likewise. */
bool readyz_at_hand(struct app *app, struct request *req, struct reply *reply);

#endif
