/* writer.h - an artifact while it is written.  Private to core/artifact. */
#ifndef CORE_ARTIFACT_WRITER_H
#define CORE_ARTIFACT_WRITER_H

#include "core/artifact/artifact.h"
#include "core/artifact/builder.h"

/* A tensor as codes, and what turns them back. */
struct codes { const char *q, *scale, *zero; };

struct writer {
    const struct artifact_spec *a;
    struct builder b;
    const struct artifact_layer **at;      /* [n_nodes]: the quantized layer of a node */
    const struct artifact_layer **bias_at; /* [n_nodes]: the quantized layer whose bias this Add is */
    struct pair {                          /* Q/DQ pairs so far; codes in parts, `size` columns each, with a DQ each; codes found at run time */
        int value;
        size_t size;                       /* 0: whole */
        struct artifact_input in;
        const char *from;                  /* what is made codes: the value, scaled where it has factors */
        const char *name, **parts;         /* whole: what DQ gives; else what the parts' give, or parts of codes found at run time */
        struct codes codes;                /* found at run time */
    } *pairs;
    int n_pairs;
};

/*
 * A value as the layer reads it, written once for all layers that read it alike; names of tensors.
 *   codes          after a quantizer and its DequantizeLinear
 *   parts          the same of `size` columns each, [k / size]; of codes found at run time the codes
 *   dynamic_codes  the outputs of a DynamicQuantizeLinear
 */
const char *write_codes(struct writer *w, const struct artifact_layer *l, int value, const struct artifact_input *in);
const char *const *write_parts(struct writer *w, const struct artifact_layer *l, size_t size);
struct codes write_dynamic_codes(struct writer *w, const struct artifact_layer *l);
/* What becomes codes for the layer: the value, or the value scaled; its codes have been written. */
const char *written_input(const struct writer *w, const struct artifact_layer *l);

/* Some codes of a layer's weight, rows first .. first + k - 1 of a linear's; the axis of its output channels and their scales [n]. */
struct weight_slice { size_t first, k; int rank; const int64_t *dims; int axis; const float *scales; };

/* Writes them; the name of the int8 tensor. */
const char *write_weight_codes(struct writer *w, const struct artifact_layer *l, const struct weight_slice *s);
/* Their zero points, an int8 tensor [n]. */
const char *write_weight_zeros(struct writer *w, const struct artifact_layer *l, const struct weight_slice *s);
/* Writes them and a DequantizeLinear; the name of what that gives. */
const char *write_weight(struct writer *w, const struct artifact_layer *l, const struct weight_slice *s);

#endif
