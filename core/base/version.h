/* version.h - which engine this is. */
#ifndef CORE_BASE_VERSION_H
#define CORE_BASE_VERSION_H

/*
 * "0.1.0+1a2b3c4d5e6f": the release and a hash of the sources of core/, all that decides what an artifact's bytes are; the same for the same
 * sources wherever they are built (the Makefile makes it).  Jobs are told apart by it, and a journal is read by the engine that wrote it alone.
 */
extern const char engine_version[];

#endif
