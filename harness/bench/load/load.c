/* The two ends of a measurement: load that costs so little that the system between them is what is measured.

   load target       HOST PORT COUNTERS                  serves connections and packets until it is ended
   load WORKLOAD     HOST PORT COUNTERS [NAME=VALUE]...  is the user of one workload, and ends
   load relay-…      HOST PORT COUNTERS to_host= to_port=  is one half of what tunnels are compared with (relay.c)

   Workloads: bulk-up, bulk-down, tcp-requests, udp-requests, short, idle, packets. Names: flows, seconds, warm_s,
   size_bytes, count, interval_s, congestion, copies, patience_s. COUNTERS is a file that both map (struct shared).

   The user writes lines: `begin` and `end FIGURES` where the measured time begins and ends, FIGURES as a JSON object.
   Exit code 1 with a reason on standard error when a connection failed or a byte was wrong. */

#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct shared *shared;
int patience_s = 20;
const unsigned char *block;
int block_file;

double now_s(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    fflush(stdout);
}

void put_u64(unsigned char *to, uint64_t value) { memcpy(to, &value, sizeof value); }

uint64_t get_u64(const unsigned char *from) {
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static int compare(const void *one, const void *other) {
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

void report_times(const char *name, uint64_t *times_ns, size_t count) {
    static const struct { const char *name; double share; } points[] = {
        {"p50", 0.5}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1},
    };
    qsort(times_ns, count, sizeof *times_ns, compare);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        /* The smallest value that is not below this share of them all. */
        size_t at = (size_t)(points[i].share * count + 0.999999);
        at = at ? at - 1 : 0;
        printf("\"%s_%s_us\": %.3f, ", name, points[i].name, count ? times_ns[at] / 1e3 : 0.0);
    }
}

int tcp_socket(const struct options *options) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0)
        fail("socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (*options->congestion &&
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, options->congestion, strlen(options->congestion)))
        fail("congestion control %s: %s", options->congestion, strerror(errno));
    return fd;
}

int connected(const struct options *options, int kind) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options->port)};
    inet_pton(AF_INET, options->host, &address.sin_addr);
    int fd = kind == SOCK_STREAM ? tcp_socket(options) : socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {patience_s, 0};
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address))
        fail("connecting to %s:%d: %s", options->host, options->port, strerror(errno));
    return fd;
}

void await_word(const char *word) {
    char line[64];
    if (!fgets(line, sizeof line, stdin) || strncmp(line, word, strlen(word)))
        exit(1); /* whoever started this is gone */
}

long read_stream(int fd, struct reader *reader, uint64_t *damaged) {
    static unsigned char buffer[READ_BYTES];
    long got;
    if (reader->unchecked < READ_BYTES) {
        got = reader->copies ? recv(fd, buffer, COPIED_BYTES, 0)
                             : recv(fd, buffer, READ_BYTES, MSG_TRUNC); /* tcp(7): discarded, not copied */
        if (got > 0)
            reader->unchecked += got;
    } else {
        got = recv(fd, buffer, CHECKED_BYTES, 0);
        reader->unchecked = 0;
        if (got > 0 && memcmp(buffer, block + reader->at % BLOCK_BYTES, got))
            ++*damaged;
    }
    if (got > 0)
        reader->at += got;
    return got;
}

long send_stream(int fd, uint64_t at, int copies) {
    off_t from = at % BLOCK_BYTES;
    size_t left = BLOCK_BYTES - from;
    if (copies)
        return send(fd, block + from, COPIED_BYTES, MSG_NOSIGNAL);
    return sendfile(fd, block_file, &from, left < TURN_BYTES ? left : TURN_BYTES);
}

static void make_block(void) {
    /* xorshift64*: the same on both ends, and no run of it repeats. */
    uint64_t state = 0x9E3779B97F4A7C15u;
    unsigned char *memory = malloc(2 * BLOCK_BYTES);
    for (size_t at = 0; at < BLOCK_BYTES; at += 8) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        put_u64(memory + at, state * 0x2545F4914F6CDD1Du);
    }
    memcpy(memory + BLOCK_BYTES, memory, BLOCK_BYTES);
    block = memory;
    block_file = memfd_create("block", MFD_CLOEXEC);
    if (write(block_file, memory, BLOCK_BYTES) != BLOCK_BYTES)
        fail("the block cannot be kept: %s", strerror(errno));
}

static void map_counters(const char *path) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || ftruncate(fd, sizeof *shared))
        fail("%s: %s", path, strerror(errno));
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED)
        fail("%s: %s", path, strerror(errno));
    close(fd);
}

static void read_option(struct options *options, char *word) {
    char *value = strchr(word, '=');
    if (!value)
        fail("%s is not NAME=VALUE", word);
    *value++ = 0;
    if (!strcmp(word, "flows"))
        options->flows = atoi(value);
    else if (!strcmp(word, "seconds"))
        options->seconds = atof(value);
    else if (!strcmp(word, "warm_s"))
        options->warm_s = atof(value);
    else if (!strcmp(word, "size_bytes"))
        options->size_bytes = atoi(value);
    else if (!strcmp(word, "count"))
        options->count = atoi(value);
    else if (!strcmp(word, "interval_s"))
        options->interval_s = atof(value);
    else if (!strcmp(word, "patience_s"))
        patience_s = atoi(value);
    else if (!strcmp(word, "congestion"))
        options->congestion = value;
    else if (!strcmp(word, "to_host"))
        options->to_host = value;
    else if (!strcmp(word, "to_port"))
        options->to_port = atoi(value);
    else if (!strcmp(word, "copies"))
        options->copies = atoi(value);
    else
        fail("unknown option %s", word);
}

int main(int count, char **words) {
    static const struct { const char *name; void (*run)(const struct options *); } programs[] = {
        {"target", run_target},       {"bulk-up", use_bulk_up},           {"bulk-down", use_bulk_down},
        {"short", use_short},         {"tcp-requests", use_tcp_requests}, {"udp-requests", use_udp_requests},
        {"idle", use_idle},           {"packets", use_packets},
        {"relay-near", run_relay_near}, {"relay-far", run_relay_far},
    };
    struct options options = {.flows = 1, .seconds = 3, .size_bytes = 64, .count = 1, .congestion = "", .to_host = ""};
    struct rlimit files;
    if (count < 5)
        fail("usage: load WORKLOAD HOST PORT COUNTERS [NAME=VALUE]...");
    options.host = words[2];
    options.port = atoi(words[3]);
    for (int i = 5; i < count; i++)
        read_option(&options, words[i]);
    if (options.flows < 1 || options.count < 1 || options.size_bytes < 16 || options.size_bytes > MOST_PACKET_BYTES)
        fail("flows and count are at least 1, size_bytes is 16 to %d", MOST_PACKET_BYTES);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    map_counters(words[4]);
    make_block();
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
        if (!strcmp(words[1], programs[i].name)) {
            programs[i].run(&options);
            return 0;
        }
    fail("unknown workload %s", words[1]);
}
