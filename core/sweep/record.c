/*
 * record.c - what the journal holds of a sweep.
 *
 *   site     struct site_record, then mul[channels], shift[channels] and head_codes[heads_kept * n_codes] where there are such
 *   weight   struct weight_record, then codes[k*n], scale[groups*n], and zero[groups*n], step and stored_zero[steps], bias[n],
 *            low_u[k*rank] and low_v[rank*n] where there are such
 *   layer    struct layer_record
 *   factors  struct factors_record, then mul[channels] where there are any
 *   block    struct block_result; where it was kept, of each part (blocks.h) a weight as above, or a constant's floats
 */
#include "core/sweep/sweep.h"

#include "core/sweep/blocks.h"
#include "core/sweep/journal.h"

#include <string.h>

struct site_record { struct site_choice q; struct site_summary summary; uint64_t channels; uint8_t has_mul, has_shift; };
struct weight_record { struct weight_summary summary; uint64_t k, n, group, step_group, rank; uint8_t has_zero, has_stored_zero, has_bias; };
struct layer_record { struct errors accumulated, isolated; double seconds; };
struct factors_record { double exponent; uint64_t channels; uint64_t has_mul; };

static bool misfit(struct err *e, const char *what)
{
    return err_set(e, ERR_BUG, "journal", "a %s record does not fit the model; delete the journal", what);
}

/* The next n bytes of a record, copied. */
struct reader { const char *at, *end; struct arena *mem; bool bad; };

static void *take(struct reader *r, uint64_t n, struct err *e)
{
    void *p = r->bad || n > (uint64_t)(r->end - r->at) ? NULL : arena_alloc(r->mem, n, e);
    r->bad |= !p;
    if (p && n)
        memcpy(p, r->at, (size_t)n);
    r->at += p ? n : 0;
    return p;
}

/* ---- sites ---- */

static uint64_t head_bytes(const struct site_summary *s)
{
    return (uint64_t)s->heads_kept * s->n_codes * sizeof *s->head_codes;
}

bool record_site(struct journal *j, const struct sweep *s, int site, struct err *e)
{
    const struct site *at = &s->sites[site];
    struct site_record r;
    memset(&r, 0, sizeof r);
    r.q = at->q;
    r.q.mul = r.q.shift = NULL;            /* addresses mean nothing later, and would differ from run to run */
    r.summary = at->summary;
    r.summary.head_codes = NULL;
    r.channels = sweep_channels(s, site);
    r.has_mul = at->q.mul != NULL;
    r.has_shift = at->q.shift != NULL;
    size_t row = (size_t)r.channels * sizeof(float);
    struct journal_piece pieces[] = { { &r, sizeof r }, { at->q.mul, r.has_mul ? row : 0 }, { at->q.shift, r.has_shift ? row : 0 },
                                      { at->summary.head_codes, head_bytes(&r.summary) } };
    return journal_append(j, JOURNAL_SITE, (uint32_t)site, pieces, 4, e);
}

static bool replay_site(struct replay *to, uint32_t index, const void *p, uint64_t n, struct err *e)
{
    struct site_record r;
    if (index >= (uint32_t)to->s->n_sites || n < sizeof r)
        return misfit(e, "site");
    memcpy(&r, p, sizeof r);
    struct reader in = { (const char *)p + sizeof r, (const char *)p + n, to->mem, r.channels != sweep_channels(to->s, (int)index) };
    struct site *s = &to->s->sites[index];
    float *mul = r.has_mul ? take(&in, r.channels * sizeof(float), e) : NULL;
    float *shift = r.has_shift ? take(&in, r.channels * sizeof(float), e) : NULL;
    r.summary.head_codes = head_bytes(&r.summary) ? take(&in, head_bytes(&r.summary), e) : NULL;
    if (in.bad || in.at != in.end)
        return misfit(e, "site");
    s->q = r.q;
    s->q.mul = mul;
    s->q.shift = shift;
    s->summary = r.summary;
    to->s->replayed_sites += !s->decided;
    s->decided = true;
    return true;
}

/* ---- weights ---- */

enum { WEIGHT_PIECES = 9 };

static void weight_pieces(const struct sweep_layer *l, struct weight_record *r, struct journal_piece ret[WEIGHT_PIECES])
{
    memset(r, 0, sizeof *r);
    r->summary = l->weight;
    r->k = l->w.k;
    r->n = l->w.n;
    r->group = l->w.group;
    r->step_group = l->w.step_group;
    r->rank = l->w.rank;
    r->has_zero = l->w.zero != NULL;
    r->has_stored_zero = l->w.stored_zero != NULL;
    r->has_bias = l->w.bias != NULL;
    size_t scales = qweight_scales(&l->w), steps = qweight_steps(&l->w);
    const struct journal_piece pieces[WEIGHT_PIECES] = {
        { r, sizeof *r }, { l->w.codes, l->w.k * l->w.n }, { l->w.scale, scales * sizeof(float) }, { l->w.zero, r->has_zero ? scales : 0 },
        { l->w.step, steps }, { l->w.stored_zero, r->has_stored_zero ? steps : 0 }, { l->w.bias, r->has_bias ? l->w.n * sizeof(float) : 0 },
        { l->w.low_u, l->w.k * l->w.rank * sizeof(float) }, { l->w.low_v, l->w.rank * l->w.n * sizeof(float) },
    };
    memcpy(ret, pieces, sizeof pieces);
}

bool record_weight(struct journal *j, const struct sweep *s, int layer, struct err *e)
{
    struct weight_record r;
    struct journal_piece pieces[WEIGHT_PIECES];
    weight_pieces(&s->layers[layer], &r, pieces);
    return journal_append(j, JOURNAL_WEIGHT, (uint32_t)layer, pieces, WEIGHT_PIECES, e);
}

/* The next weight of a record, into the layer. */
static bool take_weight(struct reader *in, const struct replay *to, struct sweep_layer *l, struct err *e)
{
    struct weight_record r;
    if (in->bad || (uint64_t)(in->end - in->at) < sizeof r)
        return false;
    memcpy(&r, in->at, sizeof r);
    in->at += sizeof r;
    bool fits = r.k == (uint64_t)l->l->k && r.n == (uint64_t)l->l->n && (!r.group || r.k % r.group == 0) && (!r.step_group || r.k % r.step_group == 0)
             && r.rank <= r.k && r.rank <= r.n;
    in->bad |= !fits;
    struct qweight q = { .k = (size_t)r.k, .n = (size_t)r.n, .group = (size_t)r.group, .step_group = (size_t)r.step_group,
                         .rank = (size_t)r.rank, .bits = r.summary.bits, .signal = r.summary.signal,
                         .error = r.summary.noise, .zero_channels = r.summary.zero_channels, .rounding_gain_db = r.summary.rounding_gain_db,
                         .bias_gain_db = r.summary.bias_gain_db };
    size_t scales = fits ? qweight_scales(&q) : 0, steps = fits ? qweight_steps(&q) : 0;
    in->mem = to->codes;
    q.codes = take(in, r.k * r.n, e);
    in->mem = to->mem;
    q.scale = take(in, scales * sizeof(float), e);
    q.zero = r.has_zero ? take(in, scales, e) : NULL;
    q.step = steps ? take(in, steps, e) : NULL;
    q.stored_zero = r.has_stored_zero ? take(in, steps, e) : NULL;
    q.bias = r.has_bias ? take(in, r.n * sizeof(float), e) : NULL;
    q.low_u = r.rank ? take(in, r.k * r.rank * sizeof(float), e) : NULL;
    q.low_v = r.rank ? take(in, r.rank * r.n * sizeof(float), e) : NULL;
    if (in->bad)
        return false;
    to->s->replayed_weights += !l->w.codes;
    l->w = q;
    l->weight = r.summary;
    return true;
}

static bool replay_weight(struct replay *to, uint32_t index, const void *p, uint64_t n, struct err *e)
{
    if (index >= (uint32_t)to->s->n_layers)
        return misfit(e, "weight");
    struct reader in = { p, (const char *)p + n, to->mem, false };
    return (take_weight(&in, to, &to->s->layers[index], e) && in.at == in.end) || misfit(e, "weight");
}

/* ---- layers ---- */

bool record_layer(struct journal *j, const struct sweep *s, int layer, struct err *e)
{
    const struct sweep_layer *l = &s->layers[layer];
    struct layer_record r = { l->accumulated, l->isolated, l->seconds };
    struct journal_piece piece = { &r, sizeof r };
    return journal_append(j, JOURNAL_LAYER, (uint32_t)layer, &piece, 1, e);
}

static bool replay_layer(struct replay *to, uint32_t index, const void *p, uint64_t n, struct err *e)
{
    struct layer_record r;
    if (index >= (uint32_t)to->s->n_layers || n != sizeof r)
        return misfit(e, "layer");
    memcpy(&r, p, sizeof r);
    struct sweep_layer *l = &to->s->layers[index];
    l->accumulated = r.accumulated;
    l->isolated = r.isolated;
    l->seconds = r.seconds;
    l->measured = true;
    return true;
}

/* ---- factors that the linear before a site takes up ---- */

bool record_factors(struct journal *j, const struct sweep *s, int site, struct err *e)
{
    const struct site *at = &s->sites[site];
    struct factors_record r = { at->factors.exponent, sweep_channels(s, site), at->factors.mul != NULL };
    struct journal_piece pieces[] = { { &r, sizeof r }, { at->factors.mul, r.has_mul ? (size_t)r.channels * sizeof(float) : 0 } };
    return journal_append(j, JOURNAL_FACTORS, (uint32_t)site, pieces, 2, e);
}

static bool replay_factors(struct replay *to, uint32_t index, const void *p, uint64_t n, struct err *e)
{
    struct factors_record r;
    if (index >= (uint32_t)to->s->n_sites || n < sizeof r)
        return misfit(e, "factors");
    memcpy(&r, p, sizeof r);
    struct reader in = { (const char *)p + sizeof r, (const char *)p + n, to->mem, r.channels != sweep_channels(to->s, (int)index) };
    float *mul = r.has_mul ? take(&in, r.channels * sizeof(float), e) : NULL;
    if (in.bad || in.at != in.end)
        return misfit(e, "factors");
    to->s->sites[index].factors.known = true;
    to->s->sites[index].factors.mul = mul;
    to->s->sites[index].factors.exponent = r.exponent;
    return true;
}

/* ---- blocks ---- */

static size_t constant_bytes(const struct sweep_task *t, const struct block_part *p)
{
    return (size_t)shape_elements(&t->g->values[t->g->nodes[p->node].in[p->input]].shape) * sizeof(float);
}

static bool append_block(struct journal *j, const struct sweep_task *t, const struct sweep *s, int block, struct arena *mem, struct err *e)
{
    const struct sweep_block *b = &s->blocks[block];
    struct block_part *parts;
    int n;
    if (!blocks_parts(t, s, b, mem, &parts, &n, e))
        return false;
    struct journal_piece *pieces = arena_array(mem, 1 + (uint64_t)n * WEIGHT_PIECES, sizeof *pieces, e);
    struct weight_record *records = arena_array(mem, (uint64_t)n + 1, sizeof *records, e);
    size_t count = 1;
    if (!pieces || !records)
        return false;
    pieces[0] = (struct journal_piece){ &b->result, sizeof b->result };
    for (int i = 0; b->result.kept && i < n; i++) {
        if (parts[i].layer >= 0)
            weight_pieces(&s->layers[parts[i].layer], &records[i], pieces + count);
        else
            pieces[count] = (struct journal_piece){ b->constants[i], constant_bytes(t, &parts[i]) };
        count += parts[i].layer >= 0 ? WEIGHT_PIECES : 1;
    }
    return journal_append(j, JOURNAL_BLOCK, (uint32_t)block, pieces, count, e);
}

bool record_block(struct journal *j, const struct sweep_task *t, const struct sweep *s, int block, struct err *e)
{
    struct arena *mem = arena_new(UINT64_MAX / 2);
    bool ok = mem ? append_block(j, t, s, block, mem, e) : err_set(e, ERR_MEMORY, "journal", "no memory for a record");
    arena_free(mem);
    return ok;
}

static bool replay_block(struct replay *to, uint32_t index, const void *p, uint64_t n, struct err *e)
{
    struct block_part *parts;
    int count;
    if (index >= (uint32_t)to->s->n_blocks || n < sizeof(struct block_result))
        return misfit(e, "block");
    struct sweep_block *b = &to->s->blocks[index];
    struct reader in = { (const char *)p + sizeof b->result, (const char *)p + n, to->mem, false };
    memcpy(&b->result, p, sizeof b->result);
    b->done = true;
    if (!blocks_parts(to->t, to->s, b, to->mem, &parts, &count, e)
        || !(b->constants = arena_array(to->mem, (uint64_t)count + 1, sizeof *b->constants, e)))
        return false;
    for (int i = 0; b->result.kept && i < count; i++) {
        if (parts[i].layer < 0)
            b->constants[i] = take(&in, constant_bytes(to->t, &parts[i]), e);
        else if (!take_weight(&in, to, &to->s->layers[parts[i].layer], e))
            return misfit(e, "block");
    }
    return (!in.bad && in.at == in.end) || misfit(e, "block");
}

bool record_replay(void *arg, enum journal_type type, uint32_t index, const void *p, uint64_t n, struct err *e)
{
    switch (type) {
    case JOURNAL_SITE: return replay_site(arg, index, p, n, e);
    case JOURNAL_WEIGHT: return replay_weight(arg, index, p, n, e);
    case JOURNAL_LAYER: return replay_layer(arg, index, p, n, e);
    case JOURNAL_FACTORS: return replay_factors(arg, index, p, n, e);
    case JOURNAL_BLOCK: return replay_block(arg, index, p, n, e);
    }
    return misfit(e, "foreign");
}
