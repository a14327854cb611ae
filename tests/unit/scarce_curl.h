/* scarce_curl.h - libcurl without memory: what it is told before a request is refused at the n-th time, and nothing is sent. */
#ifndef TESTS_UNIT_SCARCE_CURL_H
#define TESTS_UNIT_SCARCE_CURL_H

#include <curl/curl.h>
#include <dlfcn.h>
#include <stdarg.h>

static struct { int refuse, told, performed; } scarce;      /* refuse: which, from 1 */

static inline bool scarce_refuses(void) { return !scarce.performed && ++scarce.told == scarce.refuse; }

struct curl_slist *curl_slist_append(struct curl_slist *list, const char *text)
{
    struct curl_slist *(*real)(struct curl_slist *, const char *) = (struct curl_slist * (*)(struct curl_slist *, const char *))
        dlsym(RTLD_NEXT, "curl_slist_append");
    return scarce_refuses() ? NULL : real(list, text);
}

#undef curl_easy_setopt
CURLcode curl_easy_setopt(CURL *c, CURLoption option, ...)
{
    CURLcode (*real)(CURL *, CURLoption, ...) = (CURLcode (*)(CURL *, CURLoption, ...))dlsym(RTLD_NEXT, "curl_easy_setopt");
    va_list ap;
    va_start(ap, option);
    void *value = va_arg(ap, void *);       /* all kinds of them are passed alike */
    va_end(ap);
    return scarce_refuses() ? CURLE_OUT_OF_MEMORY : real(c, option, value);
}

CURLcode curl_easy_perform(CURL *c)
{
    (void)c;
    scarce.performed++;
    return CURLE_COULDNT_CONNECT;
}

#endif
