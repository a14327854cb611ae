/*
 * show.h - what a person sees.  Text of the service is printed without its control characters: a model's names are strangers' text, and a
 * terminal obeys what it is sent.
 */
#ifndef CLIENT_SHOW_H
#define CLIENT_SHOW_H

#include "client/client.h"

/* In place: control characters become '?', and so does what is no UTF-8.  Returns text. */
char *show_plain(char *text);

/* As printf(), control characters replaced by '?'; at most 2,000 bytes. */
void show(FILE *to, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* One event of a job in one line, without the line's end, into ret; "" where it says nothing to a person. */
void show_event(const json_t *event, char *ret, size_t size);

/* A job's state in a few lines. */
void show_job(FILE *to, const json_t *job);
void show_jobs(FILE *to, const json_t *list);

/* A line that is drawn over on a terminal, and left out elsewhere.  done of total; total 0: only the text. */
void show_bar(struct client *c, const char *text, double done, double total);
/* Takes the bar away; before anything else is printed. */
void show_bar_end(struct client *c);

/* One line of progress on stderr, unless --quiet or --json. */
void show_note(struct client *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What, where, what to do. */
void show_failure(FILE *to, const struct failure *f);

/* Members of objects from the service; "" and 0 where they are absent or of another type. */
const char *text_of(const json_t *object, const char *key);
double number_of(const json_t *object, const char *key);

#endif
