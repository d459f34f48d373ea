/* Many connections: short ones, some at a time, and idle ones that are kept open. */

#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, LOOK_MS = 100, MOST_SIZE_BYTES = 1 << 16 };

struct flow {
    int fd;
    int number;
    int sent;             /* bytes, the kind included */
    int received;
    double began_s;
};

static const struct options *wanted;
static struct sockaddr_in address;
static int poller, started, finished, failed, open_now, keep_open;
static char first_failure[200];
static struct flow *flows, **free_flows;
static int free_count;
static uint64_t *times_ns;

static const unsigned char *content(const struct flow *flow) { return block + (size_t)flow->number * 4099 % BLOCK_BYTES; }

static void over(struct flow *flow, const char *reason) {
    if (reason) {
        if (!failed++)
            snprintf(first_failure, sizeof first_failure, "connection %d: %s", flow->number, reason);
    } else
        times_ns[finished++] = (now_s() - flow->began_s) * 1e9;
    if (reason || !keep_open) {
        close(flow->fd);
        flow->fd = -1;
        free_flows[free_count++] = flow;
    } else {
        struct epoll_event event = {.events = EPOLLRDHUP, .data.ptr = flow};
        epoll_ctl(poller, EPOLL_CTL_MOD, flow->fd, &event);
    }
    open_now--;
}

/* The kind and the content in one piece. */
static void send_rest(struct flow *flow) {
    unsigned char message[1 + MOST_SIZE_BYTES];
    int size = 1 + wanted->size_bytes;
    message[0] = ECHO;
    memcpy(message + 1, content(flow), wanted->size_bytes);
    long done = send(flow->fd, message + flow->sent, size - flow->sent, MSG_NOSIGNAL);
    if (done < 0 && errno != EAGAIN) {
        over(flow, strerror(errno));
        return;
    }
    flow->sent += done > 0 ? done : 0;
    if (flow->sent == size) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = flow};
        epoll_ctl(poller, EPOLL_CTL_MOD, flow->fd, &event);
    }
}

static void receive_rest(struct flow *flow) {
    unsigned char answer[MOST_SIZE_BYTES + 1];
    long got = recv(flow->fd, answer, sizeof answer, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        over(flow, got ? strerror(errno) : "it ended before its answer was there");
    else if (flow->received + got > wanted->size_bytes || memcmp(answer, content(flow) + flow->received, got))
        over(flow, "the answer is different from the request");
    else if ((flow->received += got) == wanted->size_bytes)
        over(flow, NULL);
}

static void start(void) {
    struct flow *flow = free_flows[--free_count];
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = flow};
    *flow = (struct flow){.number = started++, .began_s = now_s(), .fd = tcp_socket(wanted)};
    open_now++;
    if (connect(flow->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) {
        over(flow, strerror(errno));
        return;
    }
    epoll_ctl(poller, EPOLL_CTL_ADD, flow->fd, &event);
}

static void handle(const struct epoll_event *event) {
    struct flow *flow = event->data.ptr;
    int error = 0;
    socklen_t size = sizeof error;
    if (flow->fd < 0)
        return;
    if (flow->received == wanted->size_bytes)
        return; /* it is kept open; whether it lived is looked at in the end */
    if (event->events & (EPOLLERR | EPOLLHUP) && !(event->events & EPOLLIN)) {
        getsockopt(flow->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        over(flow, strerror(error));
    } else if (flow->sent < 1 + wanted->size_bytes)
        send_rest(flow);
    else
        receive_rest(flow);
}

static void run_all(const struct options *options) {
    struct epoll_event events[EVENTS];
    double alive_s = now_s();
    while (finished + failed < options->count) {
        while (open_now < options->flows && started < options->count)
            start();
        int count = epoll_wait(poller, events, EVENTS, LOOK_MS);
        for (int i = 0; i < count; i++)
            handle(&events[i]);
        if (count)
            alive_s = now_s();
        else if (now_s() > alive_s + patience_s)
            fail("%d of %d connections were done, then nothing for %d s", finished, options->count, patience_s);
    }
}

static void prepare(const struct options *options, int room) {
    wanted = options;
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(options->port)};
    inet_pton(AF_INET, options->host, &address.sin_addr);
    poller = epoll_create1(EPOLL_CLOEXEC);
    flows = calloc(room, sizeof *flows);
    free_flows = calloc(room, sizeof *free_flows);
    times_ns = calloc(options->count, sizeof *times_ns);
    for (int i = 0; i < room; i++)
        free_flows[free_count++] = &flows[i];
    /* One before the others: the tunnel's handshake is over, and an error is plain. */
    int fd = connected(options, SOCK_STREAM);
    unsigned char there[2] = {ECHO, 'x'};
    if (send(fd, there, 2, 0) != 2 || recv(fd, there, 1, 0) != 1)
        fail("the first connection: %s", errno ? strerror(errno) : "it ended");
    close(fd);
}

void use_short(const struct options *options) {
    prepare(options, options->flows);
    say("begin\n");
    double began_s = now_s();
    run_all(options);
    double seconds = now_s() - began_s;
    say("end {");
    report_times("connection", times_ns, finished);
    say("\"done\": %d, \"failed\": %d, \"seconds\": %.6f}\n", finished, failed, seconds);
    if (failed)
        fail("%d of %d connections failed; the first: %s", failed, options->count, first_failure);
    say("settled\n");
}

/* Waits for words on standard input between its phases: `open`, `check`, `close`. */
void use_idle(const struct options *options) {
    unsigned char byte;
    int dead = 0;
    keep_open = 1;
    prepare(options, options->count);
    say("ready\n");
    await_word("open");
    double began_s = now_s();
    run_all(options);
    say("opened {\"done\": %d, \"failed\": %d, \"seconds\": %.6f}\n", finished, failed, now_s() - began_s);
    if (failed)
        fail("%d of %d connections failed; the first: %s", failed, options->count, first_failure);
    await_word("check");
    for (int i = 0; i < options->count; i++)
        dead += recv(flows[i].fd, &byte, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN;
    if (dead)
        fail("%d of %d idle connections did not stay open", dead, options->count);
    say("checked\n");
    await_word("close");
    for (int i = 0; i < options->count; i++)
        close(flows[i].fd);
    say("settled\n");
    await_word("end");
}
