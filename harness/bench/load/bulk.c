/* The user of streams, in either direction, over any number of connections. */

#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 64, LOOK_MS = 10 };

struct stream {
    int fd;
    struct reader reader;
    uint64_t sent_at;
};

static struct stream *streams;
static int poller;
static uint64_t sent, received, damaged;

static void open_streams(const struct options *options, int kind, uint32_t events) {
    unsigned char header[HEADER_BYTES] = {kind};
    shared->bytes = shared->sent = shared->received = shared->stop = 0;
    streams = calloc(options->flows, sizeof *streams);
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < options->flows; i++) {
        struct stream *stream = &streams[i];
        struct epoll_event event = {.events = events, .data.ptr = stream};
        /* Each begins elsewhere in the block, so that a byte of one is wrong in another. */
        stream->reader.at = stream->sent_at = (uint64_t)i * 65537 % BLOCK_BYTES;
        stream->fd = connected(options, SOCK_STREAM);
        stream->reader.copies = options->copies;
        put_u64(header + 1, stream->sent_at);
        if (send(stream->fd, header, sizeof header, 0) != sizeof header)
            fail("stream %d: %s", i, strerror(errno));
        fcntl(stream->fd, F_SETFL, fcntl(stream->fd, F_GETFL) | O_NONBLOCK);
        epoll_ctl(poller, EPOLL_CTL_ADD, stream->fd, &event);
    }
}

static void send_some(struct stream *stream) {
    long done = send_stream(stream->fd, stream->sent_at, stream->reader.copies);
    if (done < 0 && errno != EAGAIN)
        fail("a stream failed after %llu bytes: %s", (unsigned long long)sent, strerror(errno));
    if (done > 0) {
        stream->sent_at += done;
        sent += done;
    }
}

static void receive_some(struct stream *stream) {
    long got = read_stream(stream->fd, &stream->reader, &damaged);
    if (!got)
        fail("a stream ended after %llu bytes", (unsigned long long)received);
    if (got < 0 && errno != EAGAIN)
        fail("a stream failed after %llu bytes: %s", (unsigned long long)received, strerror(errno));
    if (got > 0)
        shared->received = received += got;
}

static void turn(void (*move)(struct stream *)) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(poller, events, EVENTS, LOOK_MS);
    for (int i = 0; i < count; i++)
        move(events[i].data.ptr);
}

/* Moves bytes until `until_s`, or until something has arrived; nothing for patience_s is a failure. */
static void move_until(void (*move)(struct stream *), const volatile uint64_t *arrived, double until_s, int first) {
    double alive_s = now_s();
    uint64_t last = *arrived;
    while (now_s() < until_s && !(first && *arrived)) {
        turn(move);
        if (*arrived != last) {
            last = *arrived;
            alive_s = now_s();
        } else if (now_s() > alive_s + patience_s)
            fail("no byte arrived for %d s, after %llu", patience_s, (unsigned long long)last);
    }
}

static void measure(const struct options *options, void (*move)(struct stream *), const volatile uint64_t *arrived) {
    move_until(move, arrived, now_s() + 2 * patience_s, 1);
    move_until(move, arrived, now_s() + options->warm_s, 0);
    say("begin\n");
    double began_s = now_s();
    uint64_t before = *arrived;
    move_until(move, arrived, began_s + options->seconds, 0);
    uint64_t moved = *arrived - before;
    double seconds = now_s() - began_s;
    say("end {\"bytes\": %llu, \"seconds\": %.6f}\n", (unsigned long long)moved, seconds);
}

/* Everything that was sent must arrive, and no byte more. */
static void settle(const volatile uint64_t *from, const volatile uint64_t *to, void (*move)(struct stream *)) {
    double alive_s = now_s();
    uint64_t last = *to;
    while (*to != *from || shared->streaming) {
        if (move)
            turn(move);
        else
            usleep(1000);
        if (*to != last) {
            last = *to;
            alive_s = now_s();
        } else if (now_s() > alive_s + patience_s)
            fail("%llu bytes were sent, %llu arrived", (unsigned long long)*from, (unsigned long long)*to);
    }
    if (shared->damaged || damaged)
        fail("bytes arrived different from what was sent (%llu places)",
             (unsigned long long)(shared->damaged + damaged));
    say("settled\n");
}

void use_bulk_up(const struct options *options) {
    open_streams(options, options->copies ? COPIED_UP : STREAM_UP, EPOLLOUT);
    measure(options, send_some, &shared->bytes);
    settle(&sent, &shared->bytes, NULL);
}

void use_bulk_down(const struct options *options) {
    open_streams(options, options->copies ? COPIED_DOWN : STREAM_DOWN, EPOLLIN);
    measure(options, receive_some, &received);
    shared->stop = 1;
    settle(&shared->sent, &received, receive_some);
}
