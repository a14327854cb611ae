/*
 * names.c - layer names people know from their training code, out of what exporters leave of them.
 *
 *   node "/blocks/blocks.0/attn/qkv/MatMul"  ->  blocks.0.attn.qkv     (torch: scopes, op last, repeated prefixes)
 *   weight "encoder.layer.3.fc1.weight"      ->  encoder.layer.3.fc1   (when the node has no name of use)
 */
#include "core/graph/roles.h"

#include "core/base/utf8.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { MAX_NAME = 200 };

static bool is_op_word(const char *s, size_t n)
{
    static const char *const words[] = { "MatMul", "Gemm", "Conv", "Add", "Div", "Mul", "LayerNormalization",
                                         "RMSNormalization", "Softmax", "Einsum", "Linear" };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t len = strlen(words[i]);
        if (n >= len && memcmp(s, words[i], len) == 0 && (n == len || s[len] == '_'))
            return true;
    }
    return false;
}

/* "/a/a.0/b" -> "a.0.b": a scope that only repeats the start of the next one is dropped. */
static void join_scopes(const char *name, char *out, size_t room)
{
    size_t n = 0;
    while (*name == '/')
        name++;
    while (*name && n + 2 < room) {
        const char *end = strchr(name, '/');
        size_t len = end ? (size_t)(end - name) : strlen(name);
        bool last = !end;
        bool repeated = end && strncmp(end + 1, name, len) == 0 && end[1 + len] == '.';
        if (len && !repeated && !(last && is_op_word(name, len)))
            n += (size_t)snprintf(out + n, room - n, "%s%.*s", n ? "." : "", (int)len, name);
        if (last)
            break;
        name = end + 1;
    }
    if (n >= room)
        n = room - 1;
    out[n] = '\0';
}

static void strip_suffix(char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    if (n > m && strcmp(s + n - m, suffix) == 0)
        s[n - m] = '\0';
}

/* Names that carry no meaning: "onnx::MatMul_1261", "MatMul_12", "42". */
static bool meaningless(const char *s)
{
    return !s[0] || strncmp(s, "onnx::", 6) == 0 || is_op_word(s, strlen(s)) || isdigit((unsigned char)s[0])
        || strncmp(s, "val_", 4) == 0 || strncmp(s, "node_", 5) == 0;
}

const char *roles_layer_name(struct arena *mem, const char *node_name, const char *weight_name, const char *fallback,
                             struct err *e)
{
    char name[MAX_NAME];
    join_scopes(node_name, name, sizeof name);
    if (meaningless(name)) {
        snprintf(name, sizeof name, "%s", weight_name);
        strip_suffix(name, ".weight");
        strip_suffix(name, "_weight");
        strip_suffix(name, "_w");
    }
    if (meaningless(name))
        snprintf(name, sizeof name, "%s", fallback);
    utf8_mend(name);
    return arena_strndup(mem, name, strlen(name), e);
}

const char *roles_block_name(struct arena *mem, const char *layer, struct err *e)
{
    for (const char *s = layer; *s; ) {
        size_t len = strcspn(s, ".");
        bool number = len > 0 && strspn(s, "0123456789") == len;
        if (number)
            return arena_strndup(mem, layer, (uint64_t)(s + len - layer), e);
        s += len;
        s += *s == '.';
    }
    return arena_strndup(mem, "", 0, e);
}
