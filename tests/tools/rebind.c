/*
 * rebind.c - a name service that changes its mind, for LD_PRELOAD: names below ".test" have the addresses that the file $REBIND names, one to a
 * line, in that order; the file is read anew for each question.  Everything else is asked for as ever.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **ret)
{
    resolver *real = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    size_t n = name ? strlen(name) : 0;
    struct addrinfo *first = NULL, **last = &first;
    char line[64];
    FILE *f = n > 5 && strcmp(name + n - 5, ".test") == 0 ? fopen(getenv("REBIND"), "r") : NULL;
    if (!f)
        return real(name, service, hints, ret);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        if (real(line, service, hints, last) == 0)
            while (*last)
                last = &(*last)->ai_next;
    }
    fclose(f);
    *ret = first;
    return first ? 0 : EAI_NONAME;
}
