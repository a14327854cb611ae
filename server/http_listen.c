#include "server/http.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static int bound_port(int fd)
{
    struct sockaddr_in6 a = { 0 };      /* an IPv4 address has its port in the same place */
    socklen_t n = sizeof a;
    if (getsockname(fd, (struct sockaddr *)&a, &n) != 0)
        return 0;
    return ntohs(a.sin6_port);
}

static int open_socket(const struct addrinfo *a, const char *where, struct err *e)
{
    enum { BACKLOG = 1024 };
    int on = 1, fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        err_sys(e, where, "open a socket");
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    err_sys(e, where, "listen");
    close(fd);
    return -1;
}

int http_listen(const char *address, int64_t port, int *ret_port, struct err *e)
{
    char service[16], where[96];
    struct addrinfo *found, wish = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
                                     .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE };
    snprintf(service, sizeof service, "%d", (int)port);
    snprintf(where, sizeof where, "%.64s port %d", address, (int)port);
    if (getaddrinfo(address, service, &wish, &found) != 0) {
        err_set(e, ERR_CONFIG, where, "not a numeric IP address; use for example 127.0.0.1 or ::1");
        return -1;
    }
    int fd = open_socket(found, where, e);
    freeaddrinfo(found);
    if (fd >= 0)
        *ret_port = bound_port(fd);
    return fd;
}
