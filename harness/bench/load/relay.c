/* No tunnel, but what a tunnel in two processes cannot be faster than: TCP to UDP to TCP, and UDP to UDP to UDP, each
   process waiting, receiving and sending. Nothing is sealed, and nothing that got lost is sent again.

   relay-near: takes one connection at a time, and packets. What came by TCP goes to to_host:to_port as packets, what
   came by UDP to the port after that.
   relay-far: takes those and goes on to to_host:to_port. It dials when the first packet of a connection is there.
   An empty packet ends the connection. Answers go to whoever has sent last. */

#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 8, PIECE_BYTES = 1400 }; /* a datagram of a tunnel's carries about as much */

/* A UDP socket that is not connected, and who is at its other end. */
struct port {
    int fd;
    struct sockaddr_in peer;
};

static const struct options *wanted;
static int poller, listener = -1, stream = -1, onward; /* onward: where packets go to and answers come from */
static struct port tunnel, packets;                    /* of what comes by TCP, and by UDP */

static void watch(int fd, int operation) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poller, operation, fd, &event))
        fail("epoll: %s", strerror(errno));
}

static struct sockaddr_in place(const char *host, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    return address;
}

static int bound(const char *host, int port, int kind) {
    struct sockaddr_in address = place(host, port);
    int fd = socket(AF_INET, kind | SOCK_CLOEXEC, 0), one = 1;
    if (kind == SOCK_STREAM)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || (kind == SOCK_STREAM && listen(fd, 64)))
        fail("%s:%d: %s", host, port, strerror(errno));
    return fd;
}

static int dialled(int port, int kind) {
    struct sockaddr_in address = place(wanted->to_host, port);
    int fd = socket(AF_INET, kind | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address))
        fail("connecting to %s:%d: %s", wanted->to_host, port, strerror(errno));
    return fd;
}

static void begin_stream(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    stream = fd;
    watch(stream, EPOLL_CTL_ADD);
    if (listener >= 0)
        watch(listener, EPOLL_CTL_DEL); /* the next one waits in the backlog */
}

static void end_stream(void) {
    close(stream);
    stream = -1;
    if (listener >= 0)
        watch(listener, EPOLL_CTL_ADD);
}

static long take(struct port *from, char *piece) {
    socklen_t size = sizeof from->peer;
    return recvfrom(from->fd, piece, MOST_PACKET_BYTES, MSG_DONTWAIT, (struct sockaddr *)&from->peer, &size);
}

static void give(const struct port *to, const char *piece, long size) {
    sendto(to->fd, piece, size, MSG_DONTWAIT, (const struct sockaddr *)&to->peer, sizeof to->peer);
}

static void handle(int fd) {
    char piece[MOST_PACKET_BYTES];
    long got;
    if (fd == stream) {
        got = recv(fd, piece, PIECE_BYTES, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            return;
        give(&tunnel, piece, got > 0 ? got : 0);
        if (got <= 0)
            end_stream();
    } else if (fd == tunnel.fd) {
        got = take(&tunnel, piece);
        if (got > 0 && stream < 0 && listener < 0)
            begin_stream(dialled(wanted->to_port, SOCK_STREAM));
        if (got >= 0 && stream >= 0 && (got == 0 || send(stream, piece, got, MSG_NOSIGNAL) != got))
            end_stream();
    } else if (fd == packets.fd) {
        got = take(&packets, piece);
        if (got >= 0)
            send(onward, piece, got, MSG_DONTWAIT);
    } else if (fd == onward) {
        got = recv(fd, piece, sizeof piece, MSG_DONTWAIT);
        if (got >= 0)
            give(&packets, piece, got);
    } else if (fd == listener)
        begin_stream(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

static void relay(void) {
    struct epoll_event events[EVENTS];
    watch(tunnel.fd, EPOLL_CTL_ADD);
    watch(packets.fd, EPOLL_CTL_ADD);
    watch(onward, EPOLL_CTL_ADD);
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++)
            handle(events[i].data.fd);
    }
}

void run_relay_near(const struct options *options) {
    wanted = options;
    poller = epoll_create1(EPOLL_CLOEXEC);
    tunnel = (struct port){socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), place(options->to_host, options->to_port)};
    onward = dialled(options->to_port + 1, SOCK_DGRAM);
    packets.fd = bound(options->host, options->port, SOCK_DGRAM);
    listener = bound(options->host, options->port, SOCK_STREAM);
    watch(listener, EPOLL_CTL_ADD);
    relay();
}

void run_relay_far(const struct options *options) {
    wanted = options;
    poller = epoll_create1(EPOLL_CLOEXEC);
    tunnel.fd = bound(options->host, options->port, SOCK_DGRAM);
    packets.fd = bound(options->host, options->port + 1, SOCK_DGRAM);
    onward = dialled(options->to_port, SOCK_DGRAM);
    relay();
}
