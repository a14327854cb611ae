/*
 * write.c - recipe -> canonical JSON, and the JSON Schema, both from the table of fields.
 *
 * jansson keeps members in the order in which they were added.  A failed allocation anywhere makes
 * the whole result NULL: json_object_set_new() and friends fail on a NULL value, and that is kept in `ok`.
 */
#include "core/recipe/field.h"

#include <string.h>

struct writer { json_t *root; bool ok; };

/* The value, or NULL: what could not be put is gone. */
static json_t *put(struct writer *w, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) == 0)
        return value;
    w->ok = false;
    return NULL;
}

static json_t *finish(struct writer *w)
{
    if (w->ok && w->root)
        return w->root;
    json_decref(w->root);
    return NULL;
}

/* The object a section's members go into, made at its first field. */
static json_t *section_of(struct writer *w, json_t *root, const char *section)
{
    json_t *there = section ? json_object_get(root, section) : root;
    return there ? there : put(w, root, section, json_object());
}

/* ---- canonical JSON ---- */

static json_t *patterns_json(const struct recipe *r)
{
    json_t *list = json_array();
    for (int i = 0; i < r->n_exclude; i++)
        if (json_array_append_new(list, json_string(r->exclude[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *override_json(const struct recipe_override *o)
{
    struct writer w = { json_object(), true };
    if (o->match[0])
        put(&w, w.root, "match", json_string(o->match));
    if (o->part)
        put(&w, w.root, "part", json_string(recipe_part_name[o->part]));
    for (int i = 0; i < RECIPE_FIELDS; i++) {
        const struct field *f = &recipe_fields[i];
        int value = f->override_at ? *(const int *)(const void *)((const char *)o + f->override_at) : 0;
        if (value)
            put(&w, section_of(&w, w.root, f->section), f->key, json_integer(value));
    }
    return finish(&w);
}

static json_t *overrides_json(const struct recipe *r)
{
    json_t *list = json_array();
    for (int i = 0; i < r->n_overrides; i++)
        if (json_array_append_new(list, override_json(&r->overrides[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *field_json(const struct field *f, const struct recipe *r)
{
    switch (f->kind) {
    case FIELD_NAME: return json_string(r->name);
    case FIELD_PATTERNS: return patterns_json(r);
    case FIELD_OVERRIDES: return overrides_json(r);
    case FIELD_CHOICE: return json_string(f->choices[(int)field_get(f, r)]);
    case FIELD_BOOL: return json_boolean(field_get(f, r) != 0);
    case FIELD_INT: return json_integer((json_int_t)field_get(f, r));
    case FIELD_REAL: break;
    }
    return f->word && field_get(f, r) == f->word_value ? json_string(f->word) : json_real(field_get(f, r));
}

json_t *recipe_json(const struct recipe *r)
{
    struct writer w = { json_object(), true };
    for (int i = 0; i < RECIPE_FIELDS; i++) {
        const struct field *f = &recipe_fields[i];
        if (field_applies(f, r))
            put(&w, section_of(&w, w.root, f->section), f->key, field_json(f, r));
    }
    return finish(&w);
}

char *recipe_text(const struct recipe *r)
{
    json_t *value = recipe_json(r);
    char *text = value ? json_text(value, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(value);
    return text;
}

/* ---- JSON Schema ---- */

static json_t *choices_schema(const char *const *choices)
{
    json_t *list = json_array();
    for (int i = 0; choices[i]; i++)
        json_array_append_new(list, json_string(choices[i]));
    return json_pack("{s:o}", "enum", list);
}

/* JSON Schema counts characters where we count bytes, so the schema is the looser one for text that is not ASCII. */
static const char pattern_length[] = "at most 200 bytes of UTF-8, which maxLength cannot say: it counts characters";
_Static_assert(RECIPE_MAX_PATTERN == 200, "the text above names it");

static json_t *pattern_schema(void)
{
    return json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "description", pattern_length,
                     "type", "string", "minLength", 1, "maxLength", RECIPE_MAX_PATTERN, "not", "pattern", "[\\u0000-\\u001f\\u007f]");
}

static json_t *number_schema(const struct field *f)
{
    return json_pack("{s:s, s:i, s:i}", "type", f->kind == FIELD_INT ? "integer" : "number", "minimum", f->lo, "maximum", f->hi);
}

/* {"match": pattern, "part": name, "weights": {"bits": ...}, "activations": {"bits": ...}}, with one of either two. */
static json_t *override_schema(void)
{
    struct writer w = { json_object(), true };
    json_t *one_of = json_array();
    put(&w, w.root, "match", pattern_schema());
    put(&w, w.root, "part", choices_schema(recipe_part_name + 1));
    for (int i = 0; i < RECIPE_FIELDS; i++) {
        const struct field *f = &recipe_fields[i];
        if (!f->override_at)
            continue;
        put(&w, w.root, f->section, json_pack("{s:s, s:b, s:i, s:{s:o}}", "type", "object", "additionalProperties", 0,
                                              "minProperties", 1, "properties", f->key, number_schema(f)));
        json_array_append_new(one_of, json_pack("{s:[s]}", "required", f->section));
    }
    return json_pack("{s:s, s:b, s:[{s:[{s:[s]}, {s:[s]}]}, {s:o}], s:o}", "type", "object", "additionalProperties", 0, "allOf",
                     "anyOf", "required", "match", "required", "part", "anyOf", one_of, "properties", finish(&w));
}

static json_t *value_schema(const struct field *f)
{
    switch (f->kind) {
    case FIELD_NAME:
        return json_pack("{s:s, s:s}", "type", "string", "pattern", "^[a-z0-9._-]{1,64}$");
    case FIELD_CHOICE:
        return choices_schema(f->choices);
    case FIELD_BOOL:
        return f->lo == f->hi ? json_pack("{s:b}", "const", f->lo) : json_pack("{s:s}", "type", "boolean");
    case FIELD_PATTERNS:
        return json_pack("{s:s, s:i, s:o}", "type", "array", "maxItems", RECIPE_MAX_PATTERNS, "items", pattern_schema());
    case FIELD_OVERRIDES:
        return json_pack("{s:s, s:i, s:o}", "type", "array", "maxItems", RECIPE_MAX_OVERRIDES, "items", override_schema());
    case FIELD_INT:
    case FIELD_REAL:
        break;
    }
    return f->word ? json_pack("{s:[o, {s:s}]}", "anyOf", number_schema(f), "const", f->word) : number_schema(f);
}

/* Where the section's own schema stands below `properties`, made at its first field. */
static json_t *section_schema(struct writer *w, json_t *properties, const char *section)
{
    json_t *there = json_object_get(properties, section);
    if (!there)
        there = put(w, properties, section,
                    json_pack("{s:s, s:b, s:{}}", "type", "object", "additionalProperties", 0, "properties"));
    return there;
}

/* What a field has in a complete recipe where it is not said and does not follow from another. */
static json_t *default_json(const struct field *f)
{
    switch (f->kind) {
    case FIELD_CHOICE: return json_string(f->choices[(int)f->fallback]);
    case FIELD_BOOL: return json_boolean(f->fallback != 0);
    case FIELD_INT: return json_integer((json_int_t)f->fallback);
    case FIELD_REAL: return f->word && f->fallback == f->word_value ? json_string(f->word) : json_real(f->fallback);
    default: return json_array();
    }
}

static json_t *properties_schema(bool complete)
{
    struct writer w = { json_object(), true };
    for (int i = 0; i < RECIPE_FIELDS; i++) {
        const struct field *f = &recipe_fields[i];
        json_t *into = f->section ? json_object_get(section_schema(&w, w.root, f->section), "properties") : w.root;
        json_t *schema = put(&w, into, f->key, value_schema(f));
        put(&w, schema, "description", json_string(f->help));
        if (complete && !f->required)
            put(&w, schema, "default", default_json(f));
    }
    return finish(&w);
}

/* Adds `key` to the list object.required. */
static void require(struct writer *w, json_t *object, const char *key)
{
    json_t *list = json_object_get(object, "required");
    if (!list)
        list = put(w, object, "required", json_array());
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), key) == 0)
            return;
    if (json_array_append_new(list, json_string(key)) != 0)
        w->ok = false;
}

static json_t *complete_schema(json_t *defs)
{
    struct writer w = { json_pack("{s:s, s:b, s:o, s:o}", "type", "object", "additionalProperties", 0,
                                  "properties", properties_schema(true), "allOf", rules_schema(false, defs)), true };
    json_t *properties = json_object_get(w.root, "properties");
    for (int i = 0; i < RECIPE_FIELDS; i++) {
        const struct field *f = &recipe_fields[i];
        if (!f->required)
            continue;
        require(&w, w.root, f->section ? f->section : f->key);
        if (f->section)
            require(&w, json_object_get(properties, f->section), f->key);
    }
    return finish(&w);
}

static json_t *preset_names_schema(void)
{
    size_t n;
    const struct recipe_preset *presets = recipe_presets(&n);
    json_t *names = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(names, json_string(presets[i].name));
    return json_pack("{s:s, s:o}", "description", "the name of a preset", "enum", names);
}

static json_t *changed_preset_schema(json_t *defs)
{
    struct writer w = { json_pack("{s:s, s:b, s:[s], s:o, s:o}", "type", "object", "additionalProperties", 0,
                                  "required", "preset", "properties", properties_schema(false), "allOf", rules_schema(true, defs)),
                        true };
    put(&w, json_object_get(w.root, "properties"), "preset", preset_names_schema());
    return finish(&w);
}

/* With an $id, "#/$defs/..." means this schema wherever it is put into another document. */
json_t *recipe_schema(void)
{
    json_t *defs = json_object();
    json_t *complete = complete_schema(defs), *changed = changed_preset_schema(defs);
    return json_pack("{s:s, s:s, s:s, s:s, s:[o, o, o], s:o}",
                     "$schema", "https://json-schema.org/draft/2020-12/schema",
                     "$id", "urn:repquant:schema:recipe",
                     "title", "RepQuant recipe",
                     "description", "a complete recipe, a preset with changes, or the name of a preset",
                     "anyOf", complete, changed, preset_names_schema(), "$defs", defs);
}
