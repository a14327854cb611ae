/* row.c - what a sweep tells of its layers: to the report, and to the artifact. */
#include "core/sweep/sweep.h"

struct artifact_input sweep_input(const struct sweep *s, int site)
{
    if (site < 0)
        return (struct artifact_input){ 0 };
    const struct site *at = &s->sites[site];
    bool outside = at->norm < 0;           /* else the norm gives scaled values by its own constants */
    return (struct artifact_input){ .a = at->q.a, .fraction = at->q.fraction, .levels = at->q.levels.bits > 0, .mul = outside ? at->q.mul : NULL,
                                    .shift = outside ? at->q.shift : NULL };
}

struct site_codes sweep_codes(const struct site *s)
{
    return (struct site_codes){ .a = &s->q.a, .mul = s->q.mul, .shift = s->q.shift, .levels = s->q.levels.bits ? &s->q.levels : NULL };
}

static const char *precision_name(int weight_bits, int act_bits)
{
    static const char *const names[9][9] = {
#define ROW(w) { NULL, NULL, "w" #w "a2", "w" #w "a3", "w" #w "a4", "w" #w "a5", "w" #w "a6", "w" #w "a7", "w" #w "a8" }
        [2] = ROW(2), [3] = ROW(3), [4] = ROW(4), [5] = ROW(5), [6] = ROW(6), [7] = ROW(7), [8] = ROW(8),
#undef ROW
    };
    bool known = weight_bits >= 2 && weight_bits <= 8 && act_bits >= 2 && act_bits <= 8;
    return known ? names[weight_bits][act_bits] : "float";
}

void sweep_row(const struct sweep_task *t, const struct sweep *s, int i, struct layer_row *ret)
{
    const struct sweep_layer *l = &s->layers[i];
    bool has_weight = l->l->weight >= 0;
    int64_t params = has_weight ? l->l->k * l->l->n + (l->l->bias >= 0 ? l->l->n : 0) : 0;
    int act_bits = l->quantize ? s->sites[l->x].bits : 0, weight_bits = l->quantize ? l->choice.weight_bits : 0;
    int64_t codes = artifact_may_pack(t->recipe->target, weight_bits) ? (l->l->k * l->l->n + 1) / 2 : l->l->k * l->l->n;
    /* A scale of four bytes and a zero point of one; of two levels a step and a zero point of one each. */
    int64_t scales = l->w.scale ? 5 * (int64_t)qweight_scales(&l->w) + 2 * (int64_t)qweight_steps(&l->w) : 5 * l->l->n;
    int64_t thin = 4 * (int64_t)l->w.rank * (l->l->k + l->l->n);
    /* A product has no weights: its second operand's bits stand in the precision's name. */
    const char *precision = l->quantize ? precision_name(has_weight ? weight_bits : act_bits, act_bits) : "float";
    *ret = (struct layer_row){
        .name = l->l->name, .op = op_info[t->g->nodes[l->l->node].op].type, .block = l->l->block,
        .role = layer_role_name[l->l->kind], .part = layer_part_name[l->l->part], .weight_bits = has_weight ? weight_bits : 0, .act_bits = act_bits,
        .planned = precision, .actual = precision, .skip_reason = l->quantize ? "" : l->choice.reason,
        .has_weight = has_weight, .weight = has_weight && l->quantize ? &l->weight : NULL,
        .codes = l->w.scale ? &l->w : NULL,
        .accumulated = l->accumulated, .isolated = l->isolated,
        .x = l->x >= 0 && s->sites[l->x].decided ? &s->sites[l->x].summary : NULL,
        .clip_gain_db = l->x >= 0 ? s->sites[l->x].q.clip_gain_db : 0, .exponent = l->x >= 0 ? s->sites[l->x].q.exponent : 0,
        .residual_target = l->residual >= 0 && sweep_gathers(t, l) && t->recipe->reconstruction.target > 0,
        .params = params, .bytes_before = params * 4,
        .group = (int64_t)(l->w.group ? l->w.group : l->w.step_group),
        .bytes_after = l->quantize && has_weight ? codes + (l->l->bias >= 0 || l->w.bias ? 4 : 0) * l->l->n + scales + thin : params * 4,
        .seconds = l->seconds,
    };
    if (t->made_up) {
        ret->accumulated = ret->isolated = (struct errors){ 0 };
        ret->x = NULL;
    }
}
