/*
 * parse.c - JSON -> recipe, in four steps: the base (defaults or a preset), the fields the client
 * said, what follows from them, and the name.
 *
 * Whatever the client said is checked and never adjusted; only what was left unsaid is filled in.
 */
#include "core/recipe/field.h"

#include "core/base/buf.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_DEPTH = 8 };

struct parse {
    struct recipe r;
    const struct recipe *saved;            /* may be named like a preset; or NULL */
    const struct recipe *preset;           /* it started from, or NULL */
    bool said[RECIPE_FIELDS];              /* the client gave this field */
    const char *pointer;                   /* of the recipe in the client's document */
    struct err *e;
};

/* RFC 6901: '~' and '/' inside a key are written ~0 and ~1. */
static const char *pointer_to(char *buf, size_t size, const char *base, const char *key)
{
    size_t n = (size_t)snprintf(buf, size, "%s/", base);
    for (; *key && n + 3 < size; key++) {
        if (*key == '~' || *key == '/') {
            buf[n++] = '~';
            buf[n++] = *key == '~' ? '0' : '1';
        } else {
            buf[n++] = *key;
        }
    }
    if (n < size)
        buf[n] = '\0';
    return buf;
}

static bool bad_field(struct parse *p, const char *base, const char *key, const char *what, const char *accepted)
{
    char where[160];
    return err_set(p->e, ERR_RECIPE_FIELD, pointer_to(where, sizeof where, base, key), "\"%.64s\" %s%s", key, what, accepted);
}

static void names_of_presets(struct buf *b)
{
    size_t n;
    const struct recipe_preset *presets = recipe_presets(&n);
    for (size_t i = 0; i < n; i++)
        buf_printf(b, "%s%s", i ? ", " : "", presets[i].name);
}

/* ---- single values ---- */

bool recipe_name_valid(const char *s)
{
    size_t n = strlen(s);
    return n >= 1 && n <= RECIPE_MAX_NAME && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

static bool text_is_pattern(const char *s)
{
    for (const char *c = s; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return false;
    return *s && strlen(s) <= RECIPE_MAX_PATTERN;
}

static const char pattern_rule[] = "must be a pattern of 1 to 200 bytes without control characters (* and ? are wildcards)";

static bool parse_name(struct parse *p, const char *base, const json_t *object)
{
    const char *s = json_string_value(json_object_get(object, "name"));
    if (!s || !recipe_name_valid(s))
        return bad_field(p, base, "name", "must be 1 to 64 of a-z, 0-9, '.', '_' and '-'", "");
    memset(p->r.name, 0, sizeof p->r.name);
    memcpy(p->r.name, s, strlen(s));
    return true;
}

static bool parse_choice(struct parse *p, const struct field *f, const char *base, const json_t *value)
{
    struct buf list = BUF_INIT(512);
    const char *s = json_string_value(value);
    for (int i = 0; f->choices[i]; i++) {
        if (s && strcmp(s, f->choices[i]) == 0) {
            field_set(f, &p->r, i);
            buf_release(&list);
            return true;
        }
        buf_printf(&list, "%s\"%s\"", i ? ", " : "", f->choices[i]);
    }
    char where[160];
    if (s && f->refused && strcmp(s, f->refused) == 0)
        err_set(p->e, ERR_RECIPE_COMBINATION, pointer_to(where, sizeof where, base, f->key), "\"%s\" is not possible: %s", s, f->why);
    else
        bad_field(p, base, f->key, f->choices[1] ? "must be one of " : "must be ", list.p ? list.p : "");
    buf_release(&list);
    return false;
}

static bool parse_number(struct parse *p, const struct field *f, const char *base, const json_t *object)
{
    int64_t whole = 0;
    double real = 0;
    const char *text = json_string_value(json_object_get(object, f->key));
    if (f->word && text) {
        if (strcmp(text, f->word) != 0)
            return bad_field(p, base, f->key, "must be a number or the word ", f->word);
        real = f->word_value;
    } else if (f->kind == FIELD_INT) {
        if (!json_get_int(object, f->key, base, false, f->lo, f->hi, &whole, ERR_RECIPE_FIELD, p->e))
            return false;
        real = (double)whole;
    } else {
        if (!json_get_real(object, f->key, base, false, f->lo, f->hi, &real, ERR_RECIPE_FIELD, p->e))
            return false;
        /* One spelling per value, so that equal recipes have equal text. */
        real = rint(real * 1e6) / 1e6;
    }
    field_set(f, &p->r, real);
    return true;
}

static bool parse_bool(struct parse *p, const struct field *f, const char *base, const json_t *value)
{
    bool known = json_is_boolean(value) && json_is_true(value) >= f->lo && json_is_true(value) <= f->hi;
    if (!known)
        return bad_field(p, base, f->key, "must be ", f->lo == f->hi ? (f->lo ? "true" : "false") : "true or false");
    field_set(f, &p->r, json_is_true(value));
    return true;
}

static bool parse_patterns(struct parse *p, const char *base, const json_t *list)
{
    char where[160];
    pointer_to(where, sizeof where, base, "exclude");
    if (!json_is_array(list) || json_array_size(list) > RECIPE_MAX_PATTERNS)
        return bad_field(p, base, "exclude", "must be a list of at most 64 patterns", "");
    memset(p->r.exclude, 0, sizeof p->r.exclude);
    p->r.n_exclude = (int)json_array_size(list);
    for (int i = 0; i < p->r.n_exclude; i++) {
        const char *s = json_string_value(json_array_get(list, (size_t)i));
        char index[16];
        snprintf(index, sizeof index, "%d", i);
        if (!s || !text_is_pattern(s))
            return bad_field(p, where, index, pattern_rule, "");
        memcpy(p->r.exclude[i], s, strlen(s));
    }
    return true;
}

/* ---- overrides ---- */

/* The section object of an override ("weights") holds nothing but the fields an override can change. */
static bool parse_override_section(struct parse *p, struct recipe_override *o, const char *base, const char *section,
                                   const json_t *object)
{
    char where[160];
    pointer_to(where, sizeof where, base, section);
    if (!json_is_object(object) || json_object_size(object) == 0)
        return bad_field(p, base, section, "must be an object with: bits", "");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        const struct field *f = NULL;
        for (int i = 0; i < RECIPE_FIELDS && !f; i++)
            if (recipe_fields[i].override_at && strcmp(recipe_fields[i].section, section) == 0 &&
                strcmp(recipe_fields[i].key, key) == 0)
                f = &recipe_fields[i];
        if (!f)
            return bad_field(p, where, key, "cannot be overridden; accepted here: ", "bits");
        int64_t bits;
        if (!json_get_int(object, key, where, false, f->lo, f->hi, &bits, ERR_RECIPE_FIELD, p->e))
            return false;
        *(int *)(void *)((char *)o + f->override_at) = (int)bits;
    }
    return true;
}

/* The layers an override is for: by name, by part of the block, or by both. */
static bool parse_override_scope(struct parse *p, struct recipe_override *o, const char *base, const json_t *object)
{
    const json_t *match = json_object_get(object, "match"), *part = json_object_get(object, "part");
    const char *pattern = json_string_value(match), *name = json_string_value(part);
    if (match || !part) {
        if (!pattern || !text_is_pattern(pattern))
            return bad_field(p, base, "match", pattern_rule, "");
        memcpy(o->match, pattern, strlen(pattern));
    }
    for (int i = 1; name && recipe_part_name[i]; i++)
        if (strcmp(name, recipe_part_name[i]) == 0)
            o->part = (enum recipe_part)i;
    return !part || o->part || bad_field(p, base, "part", "must be one of ", "\"attention\", \"feed_forward\"");
}

static bool parse_override(struct parse *p, struct recipe_override *o, const char *base, const json_t *object)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object))
        return err_set(p->e, ERR_RECIPE_FIELD, base, "an override must be an object with: match, part, weights, activations");
    if (!parse_override_scope(p, o, base, object))
        return false;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        if (strcmp(key, "match") == 0 || strcmp(key, "part") == 0)
            continue;
        if (strcmp(key, "weights") != 0 && strcmp(key, "activations") != 0)
            return bad_field(p, base, key, "is not known; accepted here: ", "match, part, weights, activations");
        if (!parse_override_section(p, o, base, key, value))
            return false;
    }
    if (!o->weight_bits && !o->act_bits)
        return err_set(p->e, ERR_RECIPE_FIELD, base,
                       "the override changes nothing; give weights.bits or activations.bits, or use \"exclude\" to "
                       "keep a layer in float");
    return true;
}

static bool parse_overrides(struct parse *p, const char *base, const json_t *list)
{
    if (!json_is_array(list) || json_array_size(list) > RECIPE_MAX_OVERRIDES)
        return bad_field(p, base, "overrides", "must be a list of at most 64 objects", "");
    memset(p->r.overrides, 0, sizeof p->r.overrides);
    p->r.n_overrides = (int)json_array_size(list);
    for (int i = 0; i < p->r.n_overrides; i++) {
        char where[160];
        snprintf(where, sizeof where, "%s/overrides/%d", base, i);
        if (!parse_override(p, &p->r.overrides[i], where, json_array_get(list, (size_t)i)))
            return false;
    }
    return true;
}

/* ---- objects ---- */

static bool parse_field(struct parse *p, const struct field *f, const char *base, const json_t *object)
{
    const json_t *value = json_object_get(object, f->key);
    p->said[f - recipe_fields] = true;
    switch (f->kind) {
    case FIELD_NAME: return parse_name(p, base, object);
    case FIELD_CHOICE: return parse_choice(p, f, base, value);
    case FIELD_BOOL: return parse_bool(p, f, base, value);
    case FIELD_PATTERNS: return parse_patterns(p, base, value);
    case FIELD_OVERRIDES: return parse_overrides(p, base, value);
    case FIELD_INT:
    case FIELD_REAL: break;
    }
    return parse_number(p, f, base, object);
}

static bool same_section(const char *a, const char *b) { return a == b || (a && b && strcmp(a, b) == 0); }

/* "bits, granularity, symmetric"; at the top also the sections' names, once each. */
static void names_of_fields(struct buf *b, const char *section)
{
    const char *last = NULL;
    for (int i = 0; i < RECIPE_FIELDS; i++) {
        const struct field *f = &recipe_fields[i];
        const char *name = same_section(f->section, section) ? f->key : section ? NULL : f->section;
        if (name && name != last)
            buf_printf(b, "%s%s", b->n ? ", " : "", name);
        last = name;
    }
}

static bool parse_section(struct parse *p, const char *base, const char *section, const json_t *object);

static bool parse_member(struct parse *p, const char *base, const char *section, const json_t *object, const char *key)
{
    for (int i = 0; i < RECIPE_FIELDS; i++) {
        const struct field *f = &recipe_fields[i];
        if (same_section(f->section, section) && strcmp(f->key, key) == 0)
            return parse_field(p, f, base, object);
        if (!section && f->section && strcmp(f->section, key) == 0)
            return parse_section(p, base, f->section, json_object_get(object, key));
    }
    struct buf names = BUF_INIT(512);
    names_of_fields(&names, section);
    bad_field(p, base, key, "is not a field of a recipe; accepted here: ", names.p ? names.p : "");
    buf_release(&names);
    return false;
}

/* Every member of one object; `section` NULL is the recipe itself, where "preset" has been read already. */
static bool parse_members(struct parse *p, const char *base, const char *section, const json_t *object)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        if (!section && strcmp(key, "preset") == 0)
            continue;
        if (!parse_member(p, base, section, object, key))
            return false;
    }
    return true;
}

static bool parse_section(struct parse *p, const char *base, const char *section, const json_t *object)
{
    char where[160];
    if (json_is_object(object))
        return parse_members(p, pointer_to(where, sizeof where, base, section), section, object);
    struct buf names = BUF_INIT(512);
    names_of_fields(&names, section);
    bad_field(p, base, section, "must be an object with: ", names.p ? names.p : "");
    buf_release(&names);
    return false;
}

/* ---- what was not said ---- */

static bool apply_rule(struct parse *p, const struct field_rule *rule)
{
    const struct field *cause = field_at(rule->if_at), *f = field_at(rule->then_at);
    double want = rule->then_value == RULE_ABSENT ? 0 : rule->then_value;
    bool said = p->said[f - recipe_fields];
    if ((int)field_get(cause, &p->r) != rule->if_value)
        return true;
    if (!rule->why) {
        bool kept = said || (p->preset && (int)field_get(cause, p->preset) == rule->if_value);
        field_set(f, &p->r, kept ? field_get(f, &p->r) : want);
        return true;
    }
    if (said && (rule->then_value == RULE_ABSENT || field_get(f, &p->r) != want)) {
        char where[160];
        field_pointer(p->pointer, f, where, sizeof where);
        return err_set(p->e, ERR_RECIPE_COMBINATION, where, "\"%s\" does not go with %s \"%s\": %s",
                       f->key, cause->key, cause->choices ? cause->choices[rule->if_value] : rule->if_value ? "true" : "false", rule->why);
    }
    field_set(f, &p->r, want);
    return true;
}

static bool is_possible(struct parse *p)
{
    return field_refuse(recipe_refusals, recipe_n_refusals, &p->r, p->pointer, ERR_RECIPE_COMBINATION, p->e);
}

static bool complete(struct parse *p, bool changes_a_preset)
{
    for (int i = 0; i < RECIPE_FIELDS && !changes_a_preset; i++) {
        const struct field *f = &recipe_fields[i];
        char where[160];
        field_pointer(p->pointer, f, where, sizeof where);
        if (f->required && !p->said[i])
            return err_set(p->e, ERR_RECIPE_FIELD, where,
                           "the field \"%s\" is missing; give it, or start from a preset with {\"preset\": ...}",
                           f->key);
    }
    for (size_t i = 0; i < recipe_n_rules; i++)
        if (!apply_rule(p, &recipe_rules[i]))
            return false;
    for (int i = 0; changes_a_preset && i < RECIPE_FIELDS; i++) {
        const struct field *f = &recipe_fields[i];
        /* A field that the preset's own method does not have starts as in a complete recipe. */
        if (!p->said[i] && field_applies(f, &p->r) && !field_applies(f, p->preset))
            field_set(f, &p->r, f->fallback);
    }
    static const size_t never_zero[] = { offsetof(struct recipe, activations.percentile), offsetof(struct recipe, weights.group_size) };
    for (size_t i = 0; i < sizeof never_zero / sizeof never_zero[0]; i++) {
        const struct field *f = field_at(never_zero[i]);
        if (field_applies(f, &p->r) && field_get(f, &p->r) == 0)
            field_set(f, &p->r, f->fallback);
    }
    return is_possible(p);
}

static void set_defaults(struct recipe *r)
{
    for (int i = 0; i < RECIPE_FIELDS; i++)
        if (recipe_fields[i].fallback != 0)
            field_set(&recipe_fields[i], r, recipe_fields[i].fallback);
}

static bool start_from_preset(struct parse *p, const json_t *name, const char *where)
{
    const char *s = json_string_value(name);
    const struct recipe *preset = s ? recipe_preset(s) : NULL;
    if (s && !preset && p->saved && strcmp(s, p->saved->name) == 0)
        preset = p->saved;
    if (preset) {
        memcpy(&p->r, preset, sizeof p->r);
        p->preset = preset;
        return true;
    }
    struct buf names = BUF_INIT(1024);
    names_of_presets(&names);
    if (s)
        err_set(p->e, ERR_RECIPE_UNKNOWN, where, "there is no recipe \"%.64s\"; the presets are: %s", s, names.p ? names.p : "");
    else
        err_set(p->e, ERR_RECIPE_FIELD, where, "\"preset\" must be the name of a recipe; the presets are: %s", names.p ? names.p : "");
    buf_release(&names);
    return false;
}

/* A changed preset must not carry the preset's name; a long one is cut. */
static void rename_if_changed(struct recipe *r, const struct recipe *preset)
{
    static const char suffix[] = "-custom";
    size_t n = strlen(preset->name), most = sizeof r->name - sizeof suffix;
    /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-exp42-c,cert-flp37-c): copied whole, then set member by member */
    if (memcmp(r, preset, sizeof *r) != 0)
        memcpy(r->name + (n < most ? n : most), suffix, sizeof suffix);
}

static bool parse_object(struct parse *p, const json_t *object)
{
    char where[160];
    const json_t *preset = json_object_get(object, "preset");
    if (!preset) {
        set_defaults(&p->r);
        return parse_members(p, p->pointer, NULL, object) && complete(p, false);
    }
    if (!start_from_preset(p, preset, pointer_to(where, sizeof where, p->pointer, "preset"))
        || !parse_members(p, p->pointer, NULL, object) || !complete(p, true))
        return false;
    if (!p->said[field_at(offsetof(struct recipe, name)) - recipe_fields])
        rename_if_changed(&p->r, p->preset);
    return true;
}

bool recipe_from_json(const json_t *value, const char *pointer, const struct recipe *saved, struct recipe *ret, struct err *e)
{
    struct parse p = { .saved = saved, .pointer = pointer, .e = e };
    memset(&p.r, 0, sizeof p.r);
    bool ok = json_is_string(value) ? start_from_preset(&p, value, pointer)
            : json_is_object(value) ? parse_object(&p, value)
            : err_set(e, ERR_RECIPE_FIELD, pointer, "a recipe must be an object, or a string with the name of one");
    if (ok)
        memcpy(ret, &p.r, sizeof *ret);
    return ok;
}

bool recipe_parse(const char *text, size_t n, struct recipe *ret, struct err *e)
{
    if (n > RECIPE_MAX_TEXT)
        return err_set(e, ERR_RECIPE_FIELD, "", "a recipe has at most %d bytes, this one has %zu", RECIPE_MAX_TEXT, n);
    json_t *value = json_parse(text, n, MAX_DEPTH, ERR_RECIPE_FIELD, e);
    bool ok = value && recipe_from_json(value, "", NULL, ret, e);
    json_decref(value);
    return ok;
}
