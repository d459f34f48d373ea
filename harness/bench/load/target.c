/* The target: takes every kind of connection and packet that the users make, in one thread. */

#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { EVENTS = 256, BATCH = 16, WISH_MS = 20, UDP_BUFFER_BYTES = 4 << 20, TURN_PACKETS = 4096 };

struct connection {
    int fd;
    int kind;                        /* 0 until its header is there */
    size_t filled;                   /* of `data` */
    struct reader reader;
    uint64_t sent_at;
    struct connection *previous, *next; /* in the list of streams from here */
    unsigned char data[1 << 10];     /* the header, or what waits to be echoed */
};

static int poller;
static struct connection *down; /* streams from here */

static void watch(struct connection *connection, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &event);
}

static void leave_streams(struct connection *connection) {
    if (connection->kind != STREAM_DOWN || (!connection->previous && down != connection))
        return;
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        down = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    connection->previous = connection->next = NULL;
    shared->streaming--;
}

static void drop(struct connection *connection) {
    leave_streams(connection);
    close(connection->fd);
    free(connection);
}

static void join_streams(struct connection *connection) {
    connection->next = down;
    if (down)
        down->previous = connection;
    down = connection;
    shared->streaming++;
    watch(connection, EPOLLOUT | EPOLLRDHUP);
}

/* 0: goes on, -1: is over. */
static int read_header(struct connection *connection) {
    long got = recv(connection->fd, connection->data, 1, MSG_PEEK);
    if (got <= 0)
        return got < 0 && errno == EAGAIN ? 0 : -1;
    size_t wanted = connection->data[0] == ECHO ? 1 : HEADER_BYTES;
    got = recv(connection->fd, connection->data, wanted, MSG_PEEK);
    if (got < (long)wanted)
        return 0;
    recv(connection->fd, connection->data, wanted, 0);
    connection->kind = connection->data[0];
    if (connection->kind == ECHO)
        return 0;
    connection->reader.copies = connection->kind == COPIED_UP || connection->kind == COPIED_DOWN;
    if (connection->reader.copies)
        connection->kind = connection->kind == COPIED_UP ? STREAM_UP : STREAM_DOWN;
    connection->reader.at = connection->sent_at = get_u64(connection->data + 1);
    if (connection->kind == STREAM_DOWN)
        join_streams(connection);
    else if (connection->kind != STREAM_UP) {
        shared->damaged++;
        return -1;
    }
    return 0;
}

static int take_stream(struct connection *connection) {
    for (int turns = 0; turns < 4; turns++) {
        uint64_t damaged = 0;
        long got = read_stream(connection->fd, &connection->reader, &damaged);
        shared->damaged += damaged;
        if (got <= 0)
            return got < 0 && errno == EAGAIN ? 0 : -1;
        shared->bytes += got;
    }
    return 0;
}

static int give_stream(struct connection *connection) {
    if (shared->stop) {
        leave_streams(connection);
        watch(connection, EPOLLIN | EPOLLRDHUP); /* until the user closes it */
        return 0;
    }
    long done = send_stream(connection->fd, connection->sent_at, connection->reader.copies);
    if (done < 0)
        return errno == EAGAIN ? 0 : -1;
    connection->sent_at += done;
    shared->sent += done;
    return 0;
}

static int echo(struct connection *connection) {
    if (connection->filled) {
        long done = send(connection->fd, connection->data, connection->filled, MSG_NOSIGNAL);
        if (done < 0)
            return errno == EAGAIN ? 0 : -1;
        connection->filled -= done;
        memmove(connection->data, connection->data + done, connection->filled);
        if (!connection->filled)
            watch(connection, EPOLLIN | EPOLLRDHUP);
        return 0;
    }
    long got = recv(connection->fd, connection->data, sizeof connection->data, 0);
    if (got <= 0)
        return got < 0 && errno == EAGAIN ? 0 : -1;
    long done = send(connection->fd, connection->data, got, MSG_NOSIGNAL);
    if (done < 0 && errno != EAGAIN)
        return -1;
    done = done < 0 ? 0 : done;
    if (done < got) {
        connection->filled = got - done;
        memmove(connection->data, connection->data + done, connection->filled);
        watch(connection, EPOLLOUT | EPOLLRDHUP);
    }
    return 0;
}

static void serve(struct connection *connection, uint32_t events) {
    int over = 0;
    if (!connection->kind)
        over = read_header(connection);
    if (!over && connection->kind == ECHO)
        over = echo(connection);
    else if (!over && connection->kind == STREAM_UP)
        over = take_stream(connection);
    else if (!over && connection->kind == STREAM_DOWN)
        over = events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP) ? -1 : give_stream(connection);
    if (over)
        drop(connection);
}

static void accept_all(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *connection = calloc(1, sizeof *connection);
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = connection};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connection->fd = fd;
        shared->accepted++;
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

static void take_packet(int fd, unsigned char *packet, size_t size, const struct sockaddr_in *from) {
    if (packet[0] == ECHOED) {
        sendto(fd, packet, size, MSG_DONTWAIT, (const struct sockaddr *)from, sizeof *from);
        return;
    }
    uint64_t number = size < 16 ? 0 : get_u64(packet + 8);
    if (size < 16 || packet[0] != COUNTED || memcmp(packet + 16, block + number % BLOCK_BYTES, size - 16)) {
        shared->damaged++;
        return;
    }
    if (number < shared->next) {
        shared->stale++;
        return;
    }
    shared->next = number + 1;
    shared->packets++;
}

static void take_packets(int fd) {
    static unsigned char buffers[BATCH][MOST_PACKET_BYTES];
    static char controls[BATCH][64];
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    struct sockaddr_in from[BATCH];
    for (int taken = 0; taken < TURN_PACKETS;) {
        for (int i = 0; i < BATCH; i++) {
            vectors[i] = (struct iovec){buffers[i], MOST_PACKET_BYTES};
            messages[i].msg_hdr = (struct msghdr){
                .msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &vectors[i], .msg_iovlen = 1,
                .msg_control = controls[i], .msg_controllen = sizeof controls[i],
            };
        }
        int count = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
        if (count <= 0)
            return;
        for (int i = 0; i < count; i++) {
            size_t size = messages[i].msg_len, each = size;
            for (struct cmsghdr *c = CMSG_FIRSTHDR(&messages[i].msg_hdr); c; c = CMSG_NXTHDR(&messages[i].msg_hdr, c))
                if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
                    each = *(int *)CMSG_DATA(c);
            for (size_t at = 0; at < size; at += each, taken++)
                take_packet(fd, buffers[i] + at, size - at < each ? size - at : each, &from[i]);
        }
        if (count < BATCH)
            return;
    }
}

static int bound(const struct options *options, int kind) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options->port)};
    int fd = kind == SOCK_STREAM ? tcp_socket(options) : socket(AF_INET, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1, size = UDP_BUFFER_BYTES;
    inet_pton(AF_INET, options->host, &address.sin_addr);
    if (kind == SOCK_STREAM)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    else {
        if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size))
            setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        setsockopt(fd, SOL_UDP, UDP_GRO, &one, sizeof one);
    }
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || (kind == SOCK_STREAM && listen(fd, 4096)))
        fail("%s:%d: %s", options->host, options->port, strerror(errno));
    return fd;
}

void run_target(const struct options *options) {
    int listener = bound(options, SOCK_STREAM), packets = bound(options, SOCK_DGRAM);
    struct epoll_event events[EVENTS];
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < 2; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = i ? &packets : &listener};
        epoll_ctl(poller, EPOLL_CTL_ADD, i ? packets : listener, &event);
    }
    say("listening\n");
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, down ? WISH_MS : -1);
        for (int i = 0; i < count; i++)
            if (events[i].data.ptr == &listener)
                accept_all(listener);
            else if (events[i].data.ptr == &packets)
                take_packets(packets);
            else
                serve(events[i].data.ptr, events[i].events);
        if (shared->stop)
            while (down)
                give_stream(down);
    }
}
