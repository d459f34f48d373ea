/* Requests and answers of one size over one connection or one UDP socket: one at a time, or at a steady pace. */

#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1 << 22, LOST_S = 1, FIRST = 20 };

static uint64_t times_ns[MOST];
static uint64_t done, wrong, lost;

static uint64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000ull + at.tv_nsec;
}

/* A request knows its number and is otherwise a piece of the block. `kind` is for the target, where packets need it. */
static void make(unsigned char *request, size_t size, uint64_t number) {
    memcpy(request, block + number * 61 % BLOCK_BYTES, size);
    request[0] = ECHOED;
    put_u64(request + 8, number);
}

static void keep(uint64_t began_ns) {
    if (done < MOST)
        times_ns[done] = now_ns() - began_ns;
    done++;
}

static void finish(double began_s) {
    double seconds = now_s() - began_s;
    say("end {");
    report_times("rtt", times_ns, done < MOST ? done : MOST);
    say("\"requests\": %llu, \"lost\": %llu, \"seconds\": %.6f}\n", (unsigned long long)done,
        (unsigned long long)lost, seconds);
    if (wrong)
        fail("%llu answers were different from the request", (unsigned long long)wrong);
    if (!done)
        fail("no answer came");
    say("settled\n");
}

static void ask_tcp(int fd, size_t size, uint64_t number) {
    unsigned char request[MOST_PACKET_BYTES], answer[MOST_PACKET_BYTES];
    make(request, size, number);
    uint64_t began_ns = now_ns();
    if (send(fd, request, size, 0) != (long)size)
        fail("request %llu: %s", (unsigned long long)number, strerror(errno));
    long got = recv(fd, answer, size, MSG_WAITALL);
    if (got != (long)size)
        fail("request %llu: %s", (unsigned long long)number,
             got >= 0 ? "the connection ended" : errno == EAGAIN ? "no answer for too long" : strerror(errno));
    keep(began_ns);
    wrong += memcmp(request, answer, size) != 0;
}

/* A steady pace, whether answers come or not: times count from the moment a request is due (nothing is left out). */
static void pace_tcp(int fd, const struct options *options) {
    size_t size = options->size_bytes, filled = 0;
    uint64_t asked = 0, first_ns = now_ns(), step_ns = options->interval_s * 1e9;
    uint64_t total = options->seconds / options->interval_s, last_ns = first_ns;
    unsigned char request[MOST_PACKET_BYTES], answer[MOST_PACKET_BYTES];
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    while (done < total) {
        uint64_t due_ns = first_ns + asked * step_ns, at_ns = now_ns();
        if (asked < total && at_ns >= due_ns) {
            make(request, size, asked++);
            if (send(fd, request, size, 0) != (long)size)
                fail("request %llu: %s", (unsigned long long)asked, strerror(errno));
            continue;
        }
        struct pollfd ready = {fd, POLLIN, 0};
        uint64_t wait_ns = asked < total ? due_ns - at_ns : 100000000;
        struct timespec wait = {wait_ns / 1000000000, wait_ns % 1000000000};
        if (at_ns > last_ns + patience_s * 1000000000ull)
            fail("no answer for %d s, after %llu", patience_s, (unsigned long long)done);
        if (ppoll(&ready, 1, &wait, NULL) <= 0)
            continue;
        long got = recv(fd, answer + filled, size - filled, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            fail("after %llu answers: %s", (unsigned long long)done, got ? strerror(errno) : "the connection ended");
        filled += got > 0 ? got : 0;
        if (filled == size) {
            make(request, size, done);
            wrong += memcmp(request, answer, size) != 0;
            filled = 0;
            last_ns = now_ns();
            keep(first_ns + done * step_ns);
        }
    }
}

void use_tcp_requests(const struct options *options) {
    int fd = connected(options, SOCK_STREAM);
    unsigned char kind = ECHO;
    if (send(fd, &kind, 1, 0) != 1)
        fail("the first byte: %s", strerror(errno));
    /* The tunnel's handshake, and its ways are known. At a steady pace one says enough: behind a long queue, several
       in a row would take minutes. */
    for (int i = 0; i < (options->interval_s > 0 ? 1 : FIRST); i++)
        ask_tcp(fd, options->size_bytes, i);
    done = 0;
    double began_s = now_s();
    say("begin\n");
    if (options->interval_s > 0)
        pace_tcp(fd, options);
    else
        for (uint64_t number = 0; now_s() < began_s + options->seconds; number++)
            ask_tcp(fd, options->size_bytes, number);
    finish(began_s);
}

static void ask_udp(int fd, size_t size, uint64_t number) {
    unsigned char request[MOST_PACKET_BYTES], answer[MOST_PACKET_BYTES];
    make(request, size, number);
    uint64_t began_ns = now_ns();
    if (send(fd, request, size, 0) < 0) {
        if (errno != ECONNREFUSED)
            fail("packet %llu: %s", (unsigned long long)number, strerror(errno));
        usleep(100000); /* an ICMP answer to one before: the system is not there yet */
    }
    for (;;) {
        long got = recv(fd, answer, sizeof answer, 0);
        if (got < 0) {
            lost++;
            return;
        }
        /* The answer to one that was given up on is passed over; anything else must be this one's. */
        if (got == (long)size && get_u64(answer + 8) < number)
            continue;
        keep(began_ns);
        wrong += got != (long)size || memcmp(request, answer, size);
        return;
    }
}

void use_udp_requests(const struct options *options) {
    int fd = connected(options, SOCK_DGRAM);
    struct timeval patience = {LOST_S, 0};
    uint64_t number = 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (; number < FIRST; number++)
        ask_udp(fd, options->size_bytes, number);
    if (!done)
        fail("none of %llu packets was answered", (unsigned long long)number);
    done = lost = 0;
    double began_s = now_s();
    say("begin\n");
    for (; now_s() < began_s + options->seconds; number++)
        ask_udp(fd, options->size_bytes, number);
    finish(began_s);
}
