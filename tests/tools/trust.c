/*
 * trust.c - another folder of the system's authorities, for LD_PRELOAD: where GnuTLS is told to trust a folder's certificates it trusts those of the
 * folder $TRUST instead.
 */
#include <dlfcn.h>
#include <stdlib.h>

typedef int truster(void *, const char *, unsigned);

int gnutls_certificate_set_x509_trust_dir(void *credentials, const char *folder, unsigned format)
{
    truster *real = (truster *)dlsym(RTLD_NEXT, "gnutls_certificate_set_x509_trust_dir");
    return real(credentials, folder ? getenv("TRUST") : NULL, format);
}
