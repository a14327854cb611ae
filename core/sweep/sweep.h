/*
 * sweep.h - calibration and quantization as one pass over the graph.
 *
 * Two streams of activations run side by side for all calibration samples: the
 * float stream (what the original network computes) and the quantized stream
 * (what the network as quantized so far computes).  The graph is walked once:
 *
 *     stretch [pos, end)   all nodes up to the first quantized node with an undecided site;
 *                          both streams run it chunk by chunk; the undecided sites met on the way are observed
 *     decide               ranges from the method, weights of the layers they feed; written to the journal
 *     pos = resume         usually `end`; earlier where a tensor is cheaper to compute again than to hold
 *                          (attention probabilities: from the q.k product; a convolution's output: from the convolution)
 *
 * Tensors that cross a cut are held per chunk in a store with a memory budget.
 * Every sum is exact or taken in chunk order, so threads and memory never change a byte.  A sweep that is killed
 * and started again with its journal walks longer stretches and ends with the same bytes.
 */
#ifndef CORE_SWEEP_SWEEP_H
#define CORE_SWEEP_SWEEP_H

#include "core/base/hash.h"
#include "core/base/pool.h"
#include "core/exec/run.h"
#include "core/graph/roles.h"
#include "core/report/events.h"
#include "core/report/layer_row.h"
#include "core/sweep/method.h"

/* A tensor that is quantized, with all its readers. */
struct site {
    int value;
    int made_at;                       /* node that makes it; -1: a graph input */
    int resume_at;                     /* where the walk may go on from once it is decided; -1: where it stopped */
    const char *layer;                 /* name of the first layer that wants it */
    bool conv_output;
    int bits;
    bool decided;
    struct affine a;
    struct site_summary summary;
};

/* A layer and what became of it. */
struct sweep_layer {
    const struct layer *l;
    struct recipe_choice choice;
    bool quantize;
    int x, other, out;                 /* sites, or -1 */
    int region;
    struct qweight w;                  /* codes == NULL until decided, and for products */
    struct weight_summary weight;
    struct errors accumulated, isolated;
    double seconds;
    bool measured;
};

struct sweep_task {
    const struct graph *g;
    const struct roles *roles;
    const struct recipe *recipe;
    const struct method *method;
    const struct samples *samples;
    struct pool *pool;
    uint64_t memory;                   /* budget of held activations, bytes */
    const char *dir;                   /* journal and spill file; NULL: no journal, spill to /tmp */
    uint8_t fingerprint[HASH_SIZE];    /* of everything the result depends on; see sweep_fingerprint() */
    const struct events *events;
    int stop_after;                    /* tests: fail with ERR_CANCELED after so many newly decided sites; 0: never */
};

struct sweep {
    struct site *sites;         int n_sites;
    struct sweep_layer *layers; int n_layers;        /* one for each of roles->layers */
    struct lowering quantized;                       /* how the quantized stream computes each node */
    struct chunks chunks;
    int n_regions;
    int replayed_sites;                              /* taken from the journal */
    int64_t peak_held, spilled;                      /* bytes */
    /* The quantized stream's graph outputs for the first chunks, to compare the artifact with: [n_checked][n_outputs]. */
    int n_checked;
    struct tensor *checked;
};

/* SHA-256 over engine version, model and data digests, recipe, seed. */
void sweep_fingerprint(const uint8_t model[HASH_SIZE], const uint8_t data[HASH_SIZE], const struct recipe *r, uint64_t seed,
                       uint8_t ret[HASH_SIZE]);

/* Everything *ret refers to is in `mem` or in the task. */
bool sweep_run(const struct sweep_task *t, struct arena *mem, struct sweep *ret, struct err *e);

/* One row of the report for layer i; its strings and pointers are borrowed from the sweep. */
void sweep_row(const struct sweep_task *t, const struct sweep *s, int i, struct layer_row *ret);

/* ---- between sweep.c, sites.c and pass.c ---- */

/* Lists sites and layers as roles and recipe want them. */
bool sweep_list_sites(const struct sweep_task *t, struct arena *mem, struct sweep *s, struct err *e);

/* Are all sites of the layer decided (its operands; `with_output`: its output too)? */
bool sweep_ready(const struct sweep *s, const struct sweep_layer *l, bool with_output);

struct pass;
struct pass *pass_new(const struct sweep_task *t, struct sweep *s, struct err *e);
void pass_free(struct pass *p);
/* Runs [from, to) for all chunks, observing the listed sites into obs[n]; then holds what is alive at `resume`. */
bool pass_run(struct pass *p, int from, int to, int resume, const int *sites, int n_sites, struct observer *obs, struct err *e);
/* Copies the quantized stream's outputs of the first chunks into the sweep. */
bool pass_keep_outputs(struct pass *p, struct arena *mem, int64_t samples, struct err *e);
void pass_usage(struct pass *p, int64_t *ret_peak, int64_t *ret_spilled);

#endif
