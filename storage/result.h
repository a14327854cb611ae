/*
 * result.h - what a job left behind, for readers: events, layers, metrics, artifacts.
 */
#ifndef STORAGE_RESULT_H
#define STORAGE_RESULT_H

#include "core/base/hash.h"
#include "core/base/json.h"
#include "storage/store.h"
#include "storage/ulid.h"

/* One event; seq counts from 1 per job without gaps. */
struct event { int64_t seq, at; char type[32], trace[TRACE_ID_SIZE]; char *data; /* JSON object */ };     /* trace: the job's */
struct event_list { struct event *items; size_t n; bool more; };
bool event_list(struct store *s, const char *team, const char *job_id, int64_t after_seq, int limit, struct event_list *ret, struct err *e);
void event_list_release(struct event_list *l);

/* Columns layers may be sorted by; LAYER_INDEX is the model's order.  X(name, member of the row) */
#define LAYER_SORTS_(X) X(INDEX, "index") X(NAME, "name") X(OP, "op") X(BLOCK, "block") X(ROLE, "role")      \
    X(WEIGHT_BITS, "weight_bits") X(ACT_BITS, "act_bits") X(WEIGHT_SQNR_DB, "weight_sqnr_db")              \
    X(OUTPUT_SQNR_DB, "output_sqnr_db") X(OUTPUT_MSE, "output_mse") X(COSINE, "cosine")                     \
    X(ISOLATED_SQNR_DB, "isolated_sqnr_db") X(ACCUMULATED_SQNR_DB, "accumulated_sqnr_db")                   \
    X(ACT_MIN, "act_min") X(ACT_MAX, "act_max")                                                             \
    X(CHANNEL_RANGE_RATIO_BEFORE, "channel_range_ratio_before") X(CHANNEL_RANGE_RATIO_AFTER, "channel_range_ratio_after") \
    X(SATURATION_PCT, "saturation_pct") X(CHANNEL_EXPONENT, "channel_exponent") X(CLIP_GAIN_DB, "clip_gain_db")                 \
    X(RECONSTRUCTION_GAIN_DB, "reconstruction_gain_db") X(BIAS_CORRECTION_GAIN_DB, "bias_correction_gain_db")                \
    X(ZERO_CODE_PCT, "zero_code_pct") X(PARAMS, "params") X(BYTES_BEFORE, "bytes_before")                \
    X(BYTES_AFTER, "bytes_after") X(SECONDS, "seconds")
enum layer_sort {
#define X(name, member) LAYER_##name,
    LAYER_SORTS_(X)
#undef X
    LAYER_SORTS
};
bool layer_sort_parse(const char *text, enum layer_sort *ret);
const char *layer_sort_name(enum layer_sort sort);

/* index and the row as the child sent it; rows without the sorted member come last. */
struct layer { int64_t index; char *row; };
struct layer_list { struct layer *items; size_t n; };
bool layer_list(struct store *s, const char *team, const char *job_id, enum layer_sort sort, bool descending, struct layer_list *ret, struct err *e);
void layer_list_release(struct layer_list *l);

struct metric { char name[32]; double x_float, x_quantized; /* NaN: unknown */ int64_t samples; };
/* {"float", "quantized", "samples"}, as clients see it; NULL without memory. */
json_t *metric_json(double x_float, double x_quantized, int64_t samples);
struct metric_list { struct metric *items; size_t n; };
bool metric_list(struct store *s, const char *team, const char *job_id, struct metric_list *ret, struct err *e);
void metric_list_release(struct metric_list *l);

struct artifact {
    char id[ID_SIZE], job_id[ID_SIZE];
    char name[64], media_type[64];
    char digest[HASH_TEXT_SIZE];
    uint64_t size;
    int64_t created_at;
    bool corrupt;                   /* its bytes have rotted, see scrub.h */
};
struct artifact_list { struct artifact *items; size_t n; };
bool artifact_list(struct store *s, const char *team, const char *job_id, struct artifact_list *ret, struct err *e);
void artifact_list_release(struct artifact_list *l);
bool artifact_get(struct store *s, const char *team, const char *id, struct artifact *ret, struct err *e);
/* The artifact of a job by name, e.g. "report.json". */
bool artifact_find(struct store *s, const char *team, const char *job_id, const char *name, struct artifact *ret, struct err *e);

#endif
