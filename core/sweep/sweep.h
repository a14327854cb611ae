/*
 * sweep.h - calibration and quantization as one pass over the graph.
 *
 * Two streams of activations run side by side for all calibration samples: the
 * float stream (what the original network computes) and the quantized stream
 * (what the network as quantized so far computes).  The graph is walked once:
 *
 *     stretch [pos, end)   all nodes up to the first quantized node with an undecided site or undecided weights;
 *                          both streams run it chunk by chunk; the undecided sites met on the way are observed, and
 *                          moments are gathered for layers whose sites are decided
 *     decide               quantizers and weights from the method; written to the journal
 *     pos = resume         usually `end`; earlier where a tensor is cheaper to compute again than to hold
 *                          (attention probabilities: from the q.k product; a convolution's output: from the convolution),
 *                          or where a decision changes it (a norm that takes up channel factors: from the norm)
 *
 * Where the recipe wants blocks taught (blocks.h), stretches also end at a block's ends; the block is taught there, and runs once more.
 * Tensors that cross a cut are held per chunk in a store with a memory budget.
 * Every sum is exact or taken in chunk order, so threads and memory never change a byte.  A sweep that is killed
 * and started again with its journal walks longer stretches and ends with the same bytes.
 */
#ifndef CORE_SWEEP_SWEEP_H
#define CORE_SWEEP_SWEEP_H

#include "core/artifact/artifact.h"
#include "core/base/hash.h"
#include "core/base/pool.h"
#include "core/exec/run.h"
#include "core/graph/roles.h"
#include "core/report/events.h"
#include "core/report/layer_row.h"
#include "core/sweep/journal.h"
#include "core/sweep/method.h"

struct sample;

/* A tensor that is quantized, with all its readers. */
struct site {
    int value;
    int seen;                          /* the value that is observed: itself; of divided rows whose norm takes up factors what is divided */
    int made_at;                       /* node that makes what is seen; -1: a graph input */
    int resume_at;                     /* where the walk may go on from once it is decided; -1: where it stopped */
    const char *layer;                 /* name of the first layer that wants it */
    bool conv_output;
    int bits, weight_bits;             /* weight_bits: the fewest of the linears that read it; 0: none */
    enum site_kind kind;
    int norm;                          /* number of the norm that takes up its channel factors; -1: a Mul before the quantizer does */
    bool absorbed;                     /* the linear that makes it took up its factors before the walk; exponent: theirs */
    double exponent;
    struct { bool known; float *mul; double exponent; } factors;    /* those: what the search before the walk gave; mul NULL: none */
    bool decided, checked;             /* checked: the fold into the norm leaves the float outputs as they were */
    struct site_choice q;
    struct site_summary summary;
};

/* A layer and what became of it. */
struct sweep_layer {
    const struct layer *l;
    struct recipe_choice choice;
    bool quantize;
    bool dynamic;                      /* the artifact finds the range of its input, the tensor's, when it runs; the site's is what
                                          calibration showed */
    int x, other, out;                 /* sites, or -1 */
    int result;                        /* the node whose output both streams have in one unit: itself, or what multiplies divided rows again */
    int region;
    int residual;                      /* the value its output is added to, row for row; -1: none */
    struct qweight w;                  /* codes == NULL until decided, and for products */
    struct qweight own;                /* its weights as they are, rounded, for a walk before factors are folded; codes == NULL: none */
    struct weight_summary weight;
    struct errors accumulated, isolated;
    double seconds;
    bool measured;
};

/* Layers that are taught together: see blocks.h. */
struct sweep_block {
    int first, end;                    /* nodes [first, end) */
    int in, out;                       /* the tensors at both ends; in -1: the model's inputs */
    const char *name;
    bool done;
    struct block_result {
        bool kept;                     /* false: nothing was better than what the layers' own decisions gave */
        double before, after;          /* squared error over the target's square on the samples that were kept out */
        double fitted_before, fitted_after;    /* and on those that were learned from */
        double seconds, products;      /* of the updates; multiplications in matrix products */
        char reason[200];              /* why it was not taught; "" if it was */
    } result;
    float **constants;                 /* of its parts that are constants, once kept; NULL for layers */
};

struct sweep_task {
    const struct graph *g;
    const struct roles *roles;
    const struct recipe *recipe;
    const struct method *method;
    const struct samples *samples;
    bool made_up;                      /* the samples are: nothing may be told from them, and there is no journal: to decide takes
                                          no longer than to read it */
    struct pool *pool;
    struct arena *codes;               /* for the weights' codes, so that their memory can be freed on its own; NULL: the sweep's */
    const struct mapping *maps;        /* what the model's weights lie in, or NULL: their pages are let go of as the sweep moves on */
    size_t n_maps;
    uint64_t memory;                   /* budget of held activations, bytes */
    const char *dir;                   /* journal and spill file; NULL: no journal, spill to /tmp */
    uint64_t seed;
    uint8_t fingerprint[HASH_SIZE];    /* of everything the result depends on; see sweep_fingerprint() */
    const struct events *events;
    int stop_after;                    /* tests: fail with ERR_CANCELED after so many newly decided sites; 0: never */
};

struct sweep {
    const struct graph *g;                           /* the task's; or a copy, linears' constants holding factors (absorb.h) */
    struct site *sites;         int n_sites;
    struct sweep_layer *layers; int n_layers;        /* one for each of roles->layers */
    struct lowering quantized;                       /* how the quantized stream computes each node */
    struct chunks chunks;
    bool folding_waits;                              /* this walk runs layers behind factors with their own weights */
    int n_regions;
    struct sweep_block *blocks; int n_blocks;        /* none unless the recipe wants them taught */
    int replayed_sites, replayed_weights;            /* taken from the journal */
    int searched_sites, made_weights;                /* by this process: with those above they are all, no more */
    int64_t steps;                                   /* nodes run, on either stream, over all chunks */
    double passes;                                   /* what these are in passes over all samples; without a journal a little over 2 */
    int64_t peak_held, spilled;                      /* bytes */
    /* The quantized stream's graph outputs for the first chunks, to compare the artifact with: [n_checked][n_outputs]. */
    int n_checked;
    struct tensor *checked;
};

/* Is nothing decided from samples?  False with ERR_DATA_REQUIRED: the field of the recipe that asks for some, and what can be done. */
bool sweep_without_data(const struct roles *roles, const struct recipe *r, struct err *e);

/* SHA-256 over engine version and BLAS kernel, model and data digests, recipe, seed. */
void sweep_fingerprint(const uint8_t model[HASH_SIZE], const uint8_t data[HASH_SIZE], const struct recipe *r, uint64_t seed,
                       uint8_t ret[HASH_SIZE]);

/* Everything *ret refers to is in `mem` or in the task. */
bool sweep_run(const struct sweep_task *t, struct arena *mem, struct sweep *ret, struct err *e);

/* What the recipe makes of a layer. */
void sweep_choice(const struct recipe *r, const struct layer *l, struct recipe_choice *ret);

/* One row of the report for layer i; its strings and pointers are borrowed from the sweep. */
void sweep_row(const struct sweep_task *t, const struct sweep *s, int i, struct layer_row *ret);

/* How the artifact is to read a site (-1: none); borrowed from it. */
struct artifact_input sweep_input(const struct sweep *s, int site);
/* How the site's values become codes; borrowed from the site. */
struct site_codes sweep_codes(const struct site *s);

/* ---- between the files of this folder ---- */

/* sweep.c: what the method sees of a site; rows and weights where the sample has any. */
bool sweep_view(const struct sweep_task *t, const struct sweep *s, int site, const struct observer *o, const struct sample *sample,
                struct arena *mem, struct site_view *ret, struct err *e);

/* sites.c: lists sites and layers as roles and recipe want them. */
bool sweep_list_sites(const struct sweep_task *t, struct arena *mem, struct sweep *s, struct err *e);
/* Are all sites of the layer decided (its operands; `with_output`: its output too), and its weights? */
bool sweep_sites_ready(const struct sweep *s, const struct sweep_layer *l, bool with_output);
bool sweep_ready(const struct sweep *s, const struct sweep_layer *l, bool with_output);

/* Channels of a site: the last axis of a linear's input, the second of a convolution's output; 0: heads and tokens of products
 * have none in common. */
size_t sweep_channels(const struct sweep *s, int site);
/* Heads of attention's probabilities, whose codes are told apart: the second of four axes; 0: none, or nobody can tell. */
size_t sweep_heads(const struct sweep_task *t, const struct sweep *s, int site);
/* Does nothing but its quantized linears (and Shape) read the site's tensor? */
bool sweep_is_alone(const struct sweep_task *t, const struct sweep *s, int site);
/* Are the layer's weights made from moments?  A weight that other layers share has no input of its own. */
bool sweep_gathers(const struct sweep_task *t, const struct sweep_layer *l);

/* lower.c: what the quantized stream computes once sites and weights are decided. */
struct lower { const struct sweep_task *t; struct sweep *s; struct arena *mem; struct arena **floats; /* [n_layers] */ };
bool lower_site(const struct lower *w, int site, struct err *e);
bool lower_layer(const struct lower *w, int layer, struct err *e);
/* The same after a layer's weights were changed. */
bool lower_again(const struct lower *w, int layer, struct err *e);
/* Lets go of the floats of layers before node `pos`. */
void lower_forget(const struct lower *w, int pos);

/* record.c: decisions to the journal and back. */
bool record_site(struct journal *j, const struct sweep *s, int site, struct err *e);
bool record_weight(struct journal *j, const struct sweep *s, int layer, struct err *e);
bool record_layer(struct journal *j, const struct sweep *s, int layer, struct err *e);
bool record_factors(struct journal *j, const struct sweep *s, int site, struct err *e);
bool record_block(struct journal *j, const struct sweep_task *t, const struct sweep *s, int block, struct err *e);
struct replay { const struct sweep_task *t; struct sweep *s; struct arena *mem, *codes; };
bool record_replay(void *replay, enum journal_type type, uint32_t index, const void *p, uint64_t n, struct err *e);

/* pass.c: both streams over a stretch, for all chunks. */
struct pass;
struct gathering;
struct stretch {
    int from, to, resume;              /* runs [from, to), then holds what is alive at `resume` */
    const int *sites; int n_sites;     /* sites to observe */
    struct observer *obs;              /* [n_sites], filled; released by the caller */
    struct sample *samples;            /* [n_sites], filled where the method wants rows; released by the caller */
    struct gathering *gathering;       /* or NULL */
    int keep;                          /* what was alive at this node stays held as well; -1: nothing */
};
struct pass *pass_new(const struct sweep_task *t, struct sweep *s, struct err *e);
void pass_free(struct pass *p);
bool pass_run(struct pass *p, const struct stretch *st, struct err *e);
/* Copies the quantized stream's outputs of the first chunks into the sweep. */
bool pass_keep_outputs(struct pass *p, struct arena *mem, int64_t samples, struct err *e);
/* The bytes of a value that is held, or an input, in one chunk; *ret_temp is the caller's to free.  Any thread. */
const void *pass_held(struct pass *p, bool quantized, int chunk, int value, void **ret_temp, struct err *e);
void pass_usage(struct pass *p, int64_t *ret_peak, int64_t *ret_spilled);

#endif
