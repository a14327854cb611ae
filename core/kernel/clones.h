/*
 * clones.h - one source, several instruction sets.
 *
 * KERNEL_CLONES before a function makes gcc compile it once per level of x86-64
 * and the dynamic loader bind the best one (an ifunc).  Levels, not processor
 * names: arch=haswell would match Intel's Haswell alone, by its model number.
 * What such a function calls must be KERNEL_INLINE, or it is compiled once, for
 * the oldest level.
 *
 * All clones of a function compute the same bits: contraction is off, and sums
 * run in LANES partial sums whatever the width of a register.
 *
 * KERNEL_LOOP before a loop over elements says that no iteration reads what
 * another writes (y == x is fine, a partial overlap is not), so the loop is
 * vectorised without a test for overlap, in place too.
 */
#ifndef CORE_KERNEL_CLONES_H
#define CORE_KERNEL_CLONES_H

/* The loader runs ifunc resolvers before a sanitizer's runtime is up; and what is not optimized is for analysers, which look into plain functions. */
#if !defined(__x86_64__) || !defined(__OPTIMIZE__) || defined(__clang__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KERNEL_CLONES
#else
#define KERNEL_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#endif

#define KERNEL_INLINE static inline __attribute__((always_inline))

#ifdef __clang__
#define KERNEL_LOOP _Pragma("clang loop vectorize(assume_safety)")
#else
#define KERNEL_LOOP _Pragma("GCC ivdep")
#endif

/*
 * Sums keep LANES partial sums in vectors of WIDTH, spelled out because floating-point
 * addition may not be reordered by the compiler.  Registers narrower than a vector hold it in pieces.
 */
enum {
    WIDTH = 8,
    LANES = 32,     /* four chains of additions hide their latency */
    BLOCK = 512,    /* elements summed in float before the sum moves on to double; 2 KiB */
};
typedef float lanes __attribute__((vector_size(4 * WIDTH)));
/* The same at any address. */
typedef float loose_lanes __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

#endif
