/*
 * mutate.h - mutators for libFuzzer that know a format: one thing is changed, and lengths, offsets and checksums that the change would make
 * wrong are made right again, so that the change is seen by more than the first check.
 *
 * Each takes what LLVMFuzzerCustomMutator() takes, and gives the new size; 0: the input is not of this format, and nothing was changed.
 */
#ifndef TESTS_FUZZ_MUTATE_H
#define TESTS_FUZZ_MUTATE_H

#include <stddef.h>
#include <stdint.h>

typedef size_t mutator(uint8_t *data, size_t size, size_t max, unsigned seed);

/* Protobuf of any schema, as ONNX is: a field somewhere is changed, dropped, doubled or replaced by another, and the lengths around it follow. */
mutator mutate_wire;

/* The header's length follows its text; mostly the offsets and the size of the data follow the shapes, too. */
mutator mutate_safetensors;
mutator mutate_npy;

/* Members are changed (as .npy where they are), dropped, doubled, swapped, renamed; the archive is written anew with their sizes and checksums. */
mutator mutate_zip;

/* Chunks' checksums follow what libFuzzer changed. */
mutator mutate_png;

/* The first of these (NULL-terminated) that knows the format; one time in four, and where none does, libFuzzer's own. */
size_t mutate(mutator *const *by, uint8_t *data, size_t size, size_t max, unsigned seed);

/* Below n; n > 0. */
static inline unsigned mutate_pick(unsigned *seed, size_t n)
{
    *seed = *seed * 1664525 + 1013904223;
    return (*seed >> 8) % (unsigned)n;
}

/* libFuzzer's own, with its dictionary. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

/* What libFuzzer calls where a harness has it. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

#endif
