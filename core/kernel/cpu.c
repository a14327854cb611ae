/* What the machine has, of what the kernels and the BLAS may use. */
#include "core/kernel/kernel.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#ifdef __x86_64__
#include <cpuid.h>

/* AVX-VNNI (the 256-bit form): leaf 7, subleaf 1; the compiler's own list does not know it. */
static bool has_avx_vnni(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4) && __builtin_cpu_supports("avx2");
}

bool cpu_has_vnni(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512vnni") || has_avx_vnni();
}
#else
#define __builtin_cpu_init() ((void)0)
#define __builtin_cpu_supports(name) 0
static bool has_avx_vnni(void) { return false; }
bool cpu_has_vnni(void) { return false; }
#endif

static char features[80];

static void add(const char *name, bool present)
{
    size_t used = strlen(features);
    if (present)
        snprintf(features + used, sizeof features - used, "%s%s", used > 0 ? " " : "", name);
}

static void list_features(void)
{
    __builtin_cpu_init();
    add("sse4.2", __builtin_cpu_supports("sse4.2"));
    add("avx", __builtin_cpu_supports("avx"));
    add("avx2", __builtin_cpu_supports("avx2"));
    add("fma", __builtin_cpu_supports("fma"));
    add("avx512f", __builtin_cpu_supports("avx512f"));
    add("avx512bw", __builtin_cpu_supports("avx512bw"));
    add("avx512vl", __builtin_cpu_supports("avx512vl"));
    add("avx512vnni", __builtin_cpu_supports("avx512vnni"));
    add("avxvnni", has_avx_vnni());
}

const char *cpu_features(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, list_features);
    return features;
}
