#include "core/learn/learn.h"

#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/kernel/clones.h"

#include <stdlib.h>
#include <string.h>

static const double beta1 = 0.9, beta2 = 0.999, tiny = 1e-12;

struct course {
    const struct learn_task *t;
    struct program program;
    struct learned *learned; int n_learned;
    double *rate;                                  /* [n_learned], of full speed */
    size_t total;
    real *all, *best, *first, *second;             /* [total]: values, the best so far, moments */
    struct weights w;
    real **grad;                                   /* [slots][total] */
    int slots;
    int *train, n_train, *held, n_held;            /* chunks */
    struct tape **tapes;                           /* [threads] */
    /* one pass over some chunks */
    const int *list;                               /* the chunk of each piece of work */
    bool back;
    int step;
    double scale;                                  /* the loss is divided by the error there was before */
    double *errors, *powers;                       /* [pieces] */
};

static int fewest_bits(const struct learn_task *t)
{
    int bits = 8;
    for (int i = 0; i < t->n_linears; i++)
        bits = t->linears[i].bits < bits ? t->linears[i].bits : bits;
    return bits;
}

/* ---- what is learned ---- */

static void add_learned(struct course *c, enum learned_kind kind, int node, int input, size_t n)
{
    c->learned[c->n_learned++] = (struct learned){ kind, node, input, c->total, n };
    c->total += n;
}

static bool list_learned(struct course *c, struct arena *mem, struct err *e)
{
    const struct learn_task *t = c->t;
    c->learned = arena_array(mem, (uint64_t)t->n_linears * 3 + (uint64_t)t->n_constants, sizeof *c->learned, e);
    c->rate = arena_array(mem, (uint64_t)t->n_linears * 3 + (uint64_t)t->n_constants, sizeof *c->rate, e);
    if (!c->learned || !c->rate)
        return false;
    for (int i = 0; i < t->n_linears; i++) {
        const struct qop *q = &t->how->qop[t->linears[i].node];
        add_learned(c, LEARN_CODES, t->linears[i].node, 0, q->k * q->n);
        if (!t->one_step)
            add_learned(c, LEARN_STEPS, t->linears[i].node, 0, (q->group ? q->k / q->group : 1) * q->n);
        if (q->add)
            add_learned(c, LEARN_ADDED, t->linears[i].node, 0, q->n);
    }
    for (int i = 0; i < t->n_constants; i++) {
        const struct learn_constant *k = &t->constants[i];
        add_learned(c, LEARN_CONSTANT, k->node, k->input, (size_t)shape_elements(&t->g->values[t->g->nodes[k->node].in[k->input]].shape));
    }
    return true;
}

static const float *start_of(const struct course *c, const struct learned *l)
{
    const struct learn_task *t = c->t;
    const struct tensor *edited = lowering_edited(t->how->edit[l->node], l->input);
    switch (l->kind) {
    case LEARN_CODES:
        for (int i = 0; i < t->n_linears; i++)
            if (t->linears[i].node == l->node)
                return t->linears[i].start;
        return NULL;
    case LEARN_STEPS: return NULL;
    case LEARN_ADDED: return t->how->qop[l->node].add;
    default: return edited ? edited->data : t->g->values[t->g->nodes[l->node].in[l->input]].data;
    }
}

static double root_mean_square(size_t n, const real *x)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return n ? sqrt(sum / (double)n) : 0;
}

/* A code moves by the rate; anything else by the rate of the step it would have at the piece's fewest bits. */
static void set_rates(struct course *c)
{
    double top = (double)((1 << (fewest_bits(c->t) - 1)) - 1);
    for (int i = 0; i < c->n_learned; i++) {
        const struct learned *l = &c->learned[i];
        double reach = l->kind == LEARN_STEPS ? 1 : root_mean_square(l->n, c->all + l->at);
        c->rate[i] = l->kind == LEARN_CODES ? c->t->rate : c->t->rate * reach / top;
    }
}

static bool start(struct course *c, struct arena *mem, struct err *e)
{
    c->all = arena_array(mem, c->total, sizeof *c->all, e);
    c->best = arena_array(mem, c->total, sizeof *c->best, e);
    c->first = arena_array(mem, c->total, sizeof *c->first, e);
    c->second = arena_array(mem, c->total, sizeof *c->second, e);
    c->w.linear = arena_array(mem, (uint64_t)c->t->g->n_nodes, sizeof *c->w.linear, e);
    if (!c->all || !c->best || !c->first || !c->second || !c->w.linear)
        return false;
    c->w.all = c->all;
    for (int i = 0; i < c->n_learned; i++) {
        const struct learned *l = &c->learned[i];
        const float *from = start_of(c, l);
        for (size_t k = 0; from && k < l->n; k++)
            c->all[l->at + k] = (real)from[k];
    }
    set_rates(c);
    for (int i = 0; i < c->program.n_nodes; i++) {
        int node = c->program.nodes[i];
        const struct qop *q = &c->t->how->qop[node];
        if (q->kind != QOP_MATMUL)
            continue;
        if (!(c->w.linear[node] = arena_array(mem, q->k * q->n, sizeof **c->w.linear, e)))
            return false;
        tape_weigh(&c->program, node, c->all, c->w.linear[node]);
    }
    memcpy(c->best, c->all, c->total * sizeof *c->best);
    return true;
}

/* ---- which samples ---- */

struct learn_split learn_split_of(const struct chunks *chunks, int batch, double held_out)
{
    int n = chunks->n, period = (int)lround(1 / held_out);
    period = period > n ? n : period < 2 ? 2 : period;
    struct learn_split ret = { period, n - n / period, n / period, 1 };
    int64_t rows = 1;
    for (int i = 0; i < n; i++)
        rows = chunks->chunk[i].rows > rows ? chunks->chunk[i].rows : rows;
    ret.slots = (int)((batch + rows - 1) / rows);
    ret.slots = ret.slots > ret.train ? ret.train : ret.slots < 1 ? 1 : ret.slots;
    return ret;
}

static bool split_chunks(struct course *c, struct arena *mem, struct err *e)
{
    int n = c->t->chunks->n;
    if (n < 2)
        return err_set(e, ERR_DATA_SHAPE, "samples", "%lld calibration samples are one chunk; learning needs a second one to be judged by: give more",
                       (long long)c->t->chunks->count);
    struct learn_split split = learn_split_of(c->t->chunks, c->t->batch, c->t->held_out);
    c->slots = split.slots;
    c->train = arena_array(mem, (uint64_t)n, sizeof *c->train, e);
    c->held = arena_array(mem, (uint64_t)n, sizeof *c->held, e);
    if (!c->train || !c->held)
        return false;
    for (int i = 0; i < n; i++) {
        if (i % split.period == split.period - 1)
            c->held[c->n_held++] = i;
        else
            c->train[c->n_train++] = i;
    }
    return true;
}

/* Teacher's and student's input by turns; held-out chunks are judged on what the artifact will see. */
static enum learn_side side_of(const struct course *c, size_t piece)
{
    if (!c->back || c->t->input == LEARN_STUDENT)
        return LEARN_FROM_STUDENT;
    return c->t->input == LEARN_TEACHER || ((size_t)c->step + piece) % 2 ? LEARN_FROM_TEACHER : LEARN_FROM_STUDENT;
}

/* ---- one pass over chunks ---- */

struct temps { void *p[64]; int n; };

static const void *fetch(const struct course *c, int chunk, enum learn_side side, int value, struct temps *temps, struct err *e)
{
    void *temp = NULL;
    if (temps->n == (int)(sizeof temps->p / sizeof temps->p[0])) {
        err_set(e, ERR_MODEL_LIMIT, c->t->g->values[value].name, "more than %d tensors enter this part of the model", temps->n);
        return NULL;
    }
    const void *data = c->t->get(c->t->arg, chunk, side, value, &temp, e);
    if (temp)
        temps->p[temps->n++] = temp;
    return data;
}

static bool give_values(const struct course *c, struct tape *tape, int chunk, enum learn_side side, struct temps *temps, struct err *e)
{
    const struct plan *plan = c->t->chunks->chunk[chunk].plan;
    for (int i = 0; i < c->program.n_given; i++) {
        int v = c->program.given[i];
        if (plan->facts.known[v])
            continue;
        const void *data = fetch(c, chunk, v == c->t->in ? side : LEARN_FROM_STUDENT, v, temps, e);
        if (!data)
            return false;
        tape_set(tape, v, data);
    }
    return true;
}

static bool run_piece(void *arg, size_t piece, int thread, struct err *e)
{
    struct course *c = arg;
    struct tape *tape = c->tapes[thread];
    struct temps temps = { .n = 0 };
    int chunk = c->list[piece];
    const float *target = NULL;
    bool ok = tape_bind(tape, c->t->chunks->chunk[chunk].plan, &c->w, e)
           && give_values(c, tape, chunk, side_of(c, piece), &temps, e)
           && (target = fetch(c, chunk, LEARN_FROM_TEACHER, c->t->out, &temps, e))
           && tape_forward(tape, target, &c->errors[piece], &c->powers[piece], e);
    ok = ok && (!c->back || tape_backward(tape, target, c->scale, c->grad[piece], NULL, e));
    while (temps.n > 0)
        free(temps.p[--temps.n]);
    return ok;
}

/* Squared error over the target's square on some chunks. */
static bool judge(struct course *c, const int *list, int n, double *ret, struct err *e)
{
    double error = 0, power = 0;
    c->list = list;
    c->back = false;
    if (!pool_run(c->t->pool, (size_t)n, run_piece, c, e))
        return false;
    for (int i = 0; i < n; i++) {
        error += c->errors[i];
        power += c->powers[i];
    }
    c->scale = error > 0 ? (double)n / error : 1;
    *ret = power > 0 ? error / power : error;
    return true;
}

/* ---- one update ---- */

static double speed(const struct course *c) { return 0.5 * (1 + cos(M_PI * c->step / c->t->steps)); }

KERNEL_CLONES
static void clamp_row(size_t n, const float *lo, const float *hi, real *restrict u)
{
    for (size_t i = 0; i < n; i++) {
        real least = (real)lo[i] - (real)0.45, most = (real)hi[i] + (real)0.45;
        u[i] = u[i] < least ? least : u[i] > most ? most : u[i];
    }
}

/* Codes stay inside their range: beyond it nothing would change any more. */
static void clamp_codes(const struct course *c, const struct learned *l)
{
    const struct learn_linear *of = NULL;
    for (int i = 0; i < c->t->n_linears; i++)
        if (c->t->linears[i].node == l->node)
            of = &c->t->linears[i];
    const struct qop *q = &c->t->how->qop[l->node];
    for (size_t k = 0; of && k < q->k; k++) {
        size_t at = (q->group ? k / q->group : 0) * q->n;
        clamp_row(q->n, of->lo + at, of->hi + at, c->all + l->at + k * q->n);
    }
}

/* One update of some numbers: sums of their derivatives over `slots`, moments, values. */
struct change { double rate, decay, unbias1, unbias2, slots; };
KERNEL_CLONES
static void change_piece(const struct change *a, size_t n, const double *sum, real *restrict first, real *restrict second, real *restrict x)
{
    for (size_t i = 0; i < n; i++) {
        double g = sum[i] / a->slots;
        double m = beta1 * (double)first[i] + (1 - beta1) * g, v = beta2 * (double)second[i] + (1 - beta2) * g * g;
        first[i] = (real)m;
        second[i] = (real)v;
        x[i] = (real)((double)x[i] * (1 - a->decay) - a->rate * (m / a->unbias1) / (sqrt(v / a->unbias2) + tiny));
    }
}

KERNEL_CLONES
static void sum_piece(size_t n, const real *x, double *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[i] += (double)x[i];
}

static bool update_piece(void *arg, size_t piece, int thread, struct err *e)
{
    enum { PIECE = 256 };
    struct course *c = arg;
    const struct learned *l = &c->learned[piece];
    double rate = c->rate[piece] * speed(c), sum[PIECE];
    struct change a = { rate, l->kind == LEARN_CODES ? rate * c->t->decay : 0, 1 - pow(beta1, c->step + 1), 1 - pow(beta2, c->step + 1), c->slots };
    (void)thread;
    (void)e;
    for (size_t at = l->at; at < l->at + l->n; at += PIECE) {
        size_t n = l->at + l->n - at < PIECE ? l->at + l->n - at : PIECE;
        memset(sum, 0, sizeof sum);
        for (int s = 0; s < c->slots; s++)
            sum_piece(n, c->grad[s] + at, sum);
        change_piece(&a, n, sum, c->first + at, c->second + at, c->all + at);
    }
    if (l->kind == LEARN_CODES)
        clamp_codes(c, l);
    return true;
}

static bool weigh_piece(void *arg, size_t piece, int thread, struct err *e)
{
    struct course *c = arg;
    int node = c->t->linears[piece].node;
    (void)thread;
    (void)e;
    tape_weigh(&c->program, node, c->all, c->w.linear[node]);
    return true;
}

static bool update(struct course *c, int *list, struct err *e)
{
    for (int s = 0; s < c->slots; s++)
        list[s] = c->train[hash_mix(c->t->seed, (uint64_t)c->step * (uint64_t)c->slots + (uint64_t)s) % (uint64_t)c->n_train];
    c->list = list;
    c->back = true;
    return pool_run(c->t->pool, (size_t)c->slots, run_piece, c, e)
        && pool_run(c->t->pool, (size_t)c->n_learned, update_piece, c, e)
        && pool_run(c->t->pool, (size_t)c->t->n_linears, weigh_piece, c, e);
}

/* Is it better now than it has ever been on the chunks that were kept out? */
static bool look(struct course *c, struct learn_result *ret, struct err *e)
{
    double held, scale = c->scale;
    if (!judge(c, c->held, c->n_held, &held, e))
        return false;
    c->scale = scale;
    if (held < ret->after) {
        ret->after = held;
        ret->kept = true;
        memcpy(c->best, c->all, c->total * sizeof *c->best);
    }
    return true;
}

static double all_products(const struct course *c)
{
    double sum = 0;
    for (int i = 0; i < pool_threads(c->t->pool); i++)
        sum += tape_products(c->tapes[i]);
    return sum;
}

static bool teach(struct course *c, struct arena *mem, struct learn_result *ret, struct err *e)
{
    int *list = arena_array(mem, (uint64_t)c->slots, sizeof *list, e);
    if (!list || !judge(c, c->held, c->n_held, &ret->before, e) || !judge(c, c->train, c->n_train, &ret->fitted_before, e))
        return false;
    ret->after = ret->before;
    for (c->step = 0; c->step < c->t->steps; c->step++) {
        double products = all_products(c);
        int64_t start_us = clock_mono_us();
        if (!update(c, list, e))
            return false;
        ret->seconds += 1e-6 * (double)(clock_mono_us() - start_us);
        ret->products += all_products(c) - products;
        bool due = (c->step + 1) * LEARN_CHECKS / c->t->steps > c->step * LEARN_CHECKS / c->t->steps;
        if (due && !look(c, ret, e))
            return false;
    }
    memcpy(c->all, c->best, c->total * sizeof *c->all);
    for (int i = 0; i < c->t->n_linears; i++)
        weigh_piece(c, (size_t)i, 0, e);
    return judge(c, c->train, c->n_train, &ret->fitted_after, e);
}

static bool make_room(struct course *c, struct arena *mem, struct err *e)
{
    int n = c->t->chunks->n, threads = pool_threads(c->t->pool);
    c->errors = arena_array(mem, (uint64_t)n, sizeof *c->errors, e);
    c->powers = arena_array(mem, (uint64_t)n, sizeof *c->powers, e);
    c->grad = arena_array(mem, (uint64_t)c->slots, sizeof *c->grad, e);
    c->tapes = arena_array(mem, (uint64_t)threads, sizeof *c->tapes, e);
    bool ok = c->errors && c->powers && c->grad && c->tapes;
    for (int i = 0; ok && i < c->slots; i++)
        ok = (c->grad[i] = arena_array(mem, c->total, sizeof **c->grad, e)) != NULL;
    for (int i = 0; ok && i < threads; i++)
        ok = (c->tapes[i] = tape_new(&c->program, e)) != NULL;
    return ok;
}

bool learn_run(const struct learn_task *t, struct arena *mem, struct learn_result *ret, struct err *e)
{
    struct course c = { .t = t, .scale = 1 };
    *ret = (struct learn_result){ 0 };
    if (!list_learned(&c, mem, e))
        return false;
    struct piece piece = { t->g, t->how, t->first, t->end, t->in, t->out, c.learned, c.n_learned, false };
    bool ok = program_new(&piece, mem, &c.program, e) && split_chunks(&c, mem, e) && start(&c, mem, e) && make_room(&c, mem, e)
           && teach(&c, mem, ret, e);
    for (int i = 0; c.tapes && i < pool_threads(t->pool); i++)
        tape_free(c.tapes[i]);
    ret->learned = c.learned;
    ret->n_learned = c.n_learned;
    ret->all = c.best;
    ret->chunks = t->chunks->n;
    ret->held_out = c.n_held;
    return ok;
}
