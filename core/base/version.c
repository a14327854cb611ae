#include "core/base/version.h"

/* Built by something else than our Makefile: a tool of the tests, which makes no artifacts. */
#ifndef ENGINE_VERSION
#define ENGINE_VERSION "unknown"
#endif

const char engine_version[] = ENGINE_VERSION;
