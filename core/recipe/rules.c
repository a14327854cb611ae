/*
 * rules.c - the rules between fields, and the refusals, as JSON Schema.
 *
 * A rule fires on the value a field has in the end, said or not.  An unsaid field has what the last rule that fires gives it, else
 * the fallback in a complete recipe, the preset's value in a changed preset; as parse.c does it.
 * NULL (no memory) in any part makes the whole NULL.
 */
#include "core/recipe/field.h"

#include <stdio.h>

/* ---- schemas as propositions; the constants true and false are folded ---- */

static json_t *negated(json_t *a)
{
    if (!json_is_boolean(a))
        return json_pack("{s:o}", "not", a);
    json_t *other = json_boolean(json_is_false(a));
    json_decref(a);
    return other;
}

/* `word` is allOf or anyOf; `idle` is what changes nothing in it, true or false. */
static json_t *joined(const char *word, bool idle, json_t *a, json_t *b)
{
    json_t *list = json_object_get(a, word);
    bool kept = a && b;
    if (kept && json_is_boolean(a)) {
        json_t *rest = json_is_true(a) == idle ? b : a;
        json_decref(rest == a ? b : a);
        return rest;
    }
    if (kept && json_is_boolean(b))
        return joined(word, idle, b, a);
    if (!list)
        return json_pack("{s:[o, o]}", word, a, b);
    kept = json_array_append_new(list, b) == 0 && kept;
    if (kept)
        return a;
    json_decref(a);
    return NULL;
}

static json_t *both(json_t *a, json_t *b) { return joined("allOf", true, a, b); }
static json_t *either(json_t *a, json_t *b) { return joined("anyOf", false, a, b); }

/* ---- about one field ---- */

/* The field's value is as `want` says; where it is not said that holds too, unless `present`. */
static json_t *member(const struct field *f, json_t *want, bool present)
{
    const char *path[] = { f->key, f->section };
    json_t *schema = want;
    for (int i = 0; i < 2 && path[i]; i++)
        schema = present ? json_pack("{s:{s:o}, s:[s]}", "properties", path[i], schema, "required", path[i])
                         : json_pack("{s:{s:o}}", "properties", path[i], schema);
    return schema;
}

static json_t *value_schema(const struct field *f, int value)
{
    switch (f->kind) {
    case FIELD_CHOICE: return json_pack("{s:s}", "const", f->choices[value]);
    case FIELD_BOOL: return json_pack("{s:b}", "const", value);
    case FIELD_REAL: break;
    default: return json_pack("{s:i}", "const", value);
    }
    /* What the parser's rounding to 1e-6 makes this value. */
    return json_pack("{s:s, s:f, s:f}", "type", "number", "minimum", value - 0.5e-6, "maximum", value + 0.5e-6);
}

/* The preset is one of those whose own recipe fulfils the condition. */
static json_t *preset_where(const struct condition *c)
{
    size_t n, found = 0;
    const struct recipe_preset *presets = recipe_presets(&n);
    json_t *names = json_array();
    bool ok = names;
    for (size_t i = 0; i < n; i++)
        if (condition_holds(c, &presets[i].recipe)) {
            ok = json_array_append_new(names, json_string(presets[i].name)) == 0 && ok;
            found++;
        }
    if (ok && found > 0 && found < n)
        return json_pack("{s:{s:{s:o}}}", "properties", "preset", "enum", names);
    json_decref(names);
    return ok ? json_boolean(found > 0) : NULL;
}

/* Of which kind of recipe; what is said more than once gets a name in `defs`. */
struct form { bool changes_a_preset; json_t *defs; };

/* What is so before any rule, where the field is not said. */
static json_t *at_first(const struct form *form, const struct field *f, const struct condition *c)
{
    if (form->changes_a_preset)
        return preset_where(c);
    return json_boolean(!f->required && c->kind == CONDITION_IS && f->fallback == c->value);
}

static json_t *has_value(const struct form *form, size_t at, int value);

static json_t *fires(const struct form *form, const struct field_rule *rule)
{
    struct condition cause = { CONDITION_IS, rule->if_at, rule->if_value };
    json_t *so = has_value(form, rule->if_at, rule->if_value);
    return rule->why || !form->changes_a_preset ? so : both(so, negated(preset_where(&cause)));
}

static json_t *has_unsaid(const struct form *form, const struct field *f, int value)
{
    struct condition is = { CONDITION_IS, f->at, value };
    json_t *unsaid = at_first(form, f, &is);
    for (size_t i = 0; i < recipe_n_rules; i++) {
        const struct field_rule *rule = &recipe_rules[i];
        int gives = rule->then_value == RULE_ABSENT ? 0 : rule->then_value;
        if (rule->then_at == f->at)
            unsaid = gives == value ? either(unsaid, fires(form, rule)) : both(unsaid, negated(fires(form, rule)));
    }
    return unsaid;
}

/* The field has the value in the end. */
static json_t *has_value(const struct form *form, size_t at, int value)
{
    const struct field *f = field_at(at);
    char name[128], ref[160], number[16];
    snprintf(number, sizeof number, "%d", value);
    snprintf(name, sizeof name, "%s.%s%s%s.%s", form->changes_a_preset ? "changed" : "complete", f->section ? f->section : "",
             f->section ? "." : "", f->key, f->kind == FIELD_CHOICE ? f->choices[value] : number);
    snprintf(ref, sizeof ref, "#/$defs/%s", name);
    if (json_object_get(form->defs, name))
        return json_pack("{s:s}", "$ref", ref);
    json_t *unsaid = has_unsaid(form, f, value);
    if (!unsaid || json_is_boolean(unsaid)) {
        bool present = json_is_false(unsaid);
        json_t *schema = unsaid ? member(f, value_schema(f, value), present) : NULL;
        json_decref(unsaid);
        return schema;
    }
    json_t *schema = either(member(f, value_schema(f, value), true), both(negated(member(f, json_true(), true)), unsaid));
    return json_object_set_new(form->defs, name, schema) == 0 ? json_pack("{s:s}", "$ref", ref) : NULL;
}

/* An override gives the field another value. */
static json_t *is_overridden(const struct form *form, const struct condition *c)
{
    const struct field *f = field_at(c->at), *list = field_at(offsetof(struct recipe, overrides));
    json_t *one = member(f, negated(value_schema(f, c->value)), true);
    json_t *said = member(list, json_pack("{s:o}", "contains", one), true);
    return either(said, both(negated(member(list, json_true(), true)), at_first(form, list, c)));
}

static json_t *condition_schema(const struct form *form, const struct condition *c)
{
    switch (c->kind) {
    case CONDITION_NONE: return json_true();
    case CONDITION_IS: return has_value(form, c->at, c->value);
    case CONDITION_IS_NOT: return negated(has_value(form, c->at, c->value));
    case CONDITION_OVERRIDDEN: break;
    }
    return is_overridden(form, c);
}

json_t *rules_schema(bool changes_a_preset, json_t *defs)
{
    struct form form = { changes_a_preset, defs };
    json_t *list = json_array();
    bool ok = list;
    for (size_t i = 0; i < recipe_n_rules; i++) {
        const struct field_rule *rule = &recipe_rules[i];
        const struct field *f = field_at(rule->then_at);
        if (!rule->why)
            continue;
        json_t *then = member(f, rule->then_value == RULE_ABSENT ? json_false() : value_schema(f, rule->then_value), false);
        ok = json_array_append_new(list, json_pack("{s:o, s:o}", "if", fires(&form, rule), "then", then)) == 0 && ok;
    }
    for (size_t i = 0; i < recipe_n_refusals; i++) {
        json_t *all = json_true();
        for (int j = 0; j < REFUSAL_CONDITIONS; j++)
            all = both(all, condition_schema(&form, &recipe_refusals[i].when[j]));
        ok = json_array_append_new(list, negated(all)) == 0 && ok;
    }
    if (ok)
        return list;
    json_decref(list);
    return NULL;
}
