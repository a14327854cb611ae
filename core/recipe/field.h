/*
 * field.h - the one table of recipe fields, and the rules between them.  Private to core/recipe.
 *
 * The order of the rows is the order in the canonical JSON.  Rows of one section stand together.
 */
#ifndef CORE_RECIPE_FIELD_H
#define CORE_RECIPE_FIELD_H

#include "core/recipe/recipe.h"

enum field_kind { FIELD_NAME, FIELD_CHOICE, FIELD_INT, FIELD_REAL, FIELD_BOOL, FIELD_PATTERNS, FIELD_OVERRIDES };

enum { RECIPE_FIELDS = 41 };

struct field {
    const char *section, *key;             /* section NULL: a member of the recipe itself */
    enum field_kind kind;
    size_t at;                             /* offset in struct recipe */
    size_t override_at;                    /* offset in struct recipe_override; 0: an override cannot change it */
    int lo, hi;                            /* INT, REAL: inclusive; BOOL: the values there are */
    const char *const *choices;            /* CHOICE: NULL-terminated, indexed by the enum */
    const char *refused, *why;             /* CHOICE: a value that people ask for and that cannot be, and its reason; or NULL */
    const char *word;                      /* REAL: stands for word_value in place of a number; NULL: none does */
    double word_value;
    bool required;                         /* in a complete recipe */
    double fallback;                       /* otherwise; an enum's value for CHOICE */
    const char *help;
};
extern const struct field recipe_fields[RECIPE_FIELDS];

/* Where one field has this value, another follows: unless said, it takes `then`; saying something else is an error.
 * A rule stands behind all those that give its cause a value. */
struct field_rule {
    size_t if_at;
    int if_value;
    size_t then_at;
    int then_value;                        /* RULE_ABSENT: the field has no meaning and is 0 */
    const char *why;                       /* NULL: saying something else is no error; nor has a preset with the cause to change */
};
enum { RULE_ABSENT = -1 };
extern const struct field_rule *const recipe_rules;
extern const size_t recipe_n_rules;

/* A statement about one field; data and not a function, so that the JSON Schema can say it too. */
enum condition_kind {
    CONDITION_NONE,                        /* always true: the row needs no more */
    CONDITION_IS, CONDITION_IS_NOT,        /* the field has the value, or another */
    CONDITION_OVERRIDDEN,                  /* an override gives the field another value than this */
};
struct condition { enum condition_kind kind; size_t at; int value; };
bool condition_holds(const struct condition *c, const struct recipe *r);

/* What no single rule can say: all conditions together are refused.  `at` is the field to blame. */
enum { REFUSAL_CONDITIONS = 3 };
struct recipe_refusal { struct condition when[REFUSAL_CONDITIONS]; size_t at; const char *why; };
extern const struct recipe_refusal *const recipe_refusals;
extern const size_t recipe_n_refusals;

/* The first of the list that holds is an error with `code`, `pointer` being where the recipe stands. */
bool field_refuse(const struct recipe_refusal *list, size_t n, const struct recipe *r, const char *pointer, enum err_code code, struct err *e);

/* The JSON pointer of a field. */
void field_pointer(const char *pointer, const struct field *f, char *where, size_t size);
const struct field *field_at(size_t at);                                  /* the row of an offset */
double field_get(const struct field *f, const struct recipe *r);          /* CHOICE, INT, REAL, BOOL */
void field_set(const struct field *f, struct recipe *r, double value);
/* Whether the canonical JSON shows it: percentile only with the observer of that name, a method's own sections and fields only with it. */
bool field_applies(const struct field *f, const struct recipe *r);

/* The list of schemas that say the rules and the refusals, for a complete recipe or a preset with changes; they refer to `defs`, which
 * becomes the whole schema's $defs.  NULL without memory. */
json_t *rules_schema(bool changes_a_preset, json_t *defs);

#endif
