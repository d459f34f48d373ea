/* What the parts of the load generator share. See load.c for how it is called. */

#ifndef LOAD_H
#define LOAD_H

#include <stddef.h>
#include <stdint.h>

/* What the target and the user tell each other beside the network: a file that both map.
   One writer for each field; a user that begins sets back what it needs. */
struct shared {
    volatile uint64_t bytes;        /* arrived at the target in streams */
    volatile uint64_t packets;      /* arrived at the target, right and new */
    volatile uint64_t damaged;      /* anything that arrived at the target different from what was sent */
    volatile uint64_t stale;        /* packets that were there already, or were overtaken */
    volatile uint64_t next;         /* the number of the packet that is expected; the user sets it to 0 before its first */
    volatile uint64_t sent;         /* by the target in streams */
    volatile uint64_t stop;         /* the user's wish: streams from the target end */
    volatile uint64_t streaming;    /* streams from the target that have not ended */
    volatile uint64_t accepted;     /* connections */
    volatile uint64_t received;     /* by the user in streams from the target */
};

/* The first byte of a connection says what it is. */
enum { STREAM_UP = 'S', STREAM_DOWN = 'D', ECHO = 'E', COPIED_UP = 's', COPIED_DOWN = 'd' };
/* The first byte of a packet. */
enum { COUNTED = 'C', ECHOED = 'E' };

enum {
    BLOCK_BYTES = 1 << 22,          /* streams repeat this block; the end of a stream is told by its length */
    READ_BYTES = 1 << 20,
    CHECKED_BYTES = 1 << 14,        /* of every READ_BYTES so many are looked at, the others only counted */
    TURN_BYTES = 1 << 18,           /* of one call that sends without copying */
    COPIED_BYTES = 1 << 17,         /* of one read or write that copies, as iperf3 does */
    HEADER_BYTES = 9,               /* of a stream: its kind, and where in the block it begins */
    MOST_PACKET_BYTES = 65535,
};

struct options {
    const char *host;
    int port;
    const char *counters;
    int flows;
    double seconds;
    double warm_s;
    int size_bytes;
    int count;
    double interval_s;
    const char *congestion;
    const char *to_host;
    int to_port;
    int copies;                     /* both ends copy what they send and receive, as ordinary programs do */
};

/* load.c */
extern struct shared *shared;
extern int patience_s;              /* until silence is a failure */
extern const unsigned char *block;  /* twice, so that BLOCK_BYTES from any place in it are in one piece */
extern int block_file;              /* the same, once, to send from */
double now_s(void);
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
int tcp_socket(const struct options *options);
int connected(const struct options *options, int kind); /* TCP or UDP; waits */
void await_word(const char *word);
void put_u64(unsigned char *to, uint64_t value);
uint64_t get_u64(const unsigned char *from);
void report_times(const char *name, uint64_t *times_ns, size_t count);

/* A place in a stream: receives what is there, counts it, compares a part. Returns as recv(2). */
struct reader {
    uint64_t at;
    uint64_t unchecked;
    int copies;
};
long read_stream(int fd, struct reader *reader, uint64_t *damaged);
/* Sends some of the block from this place in the stream on. Returns as send(2). */
long send_stream(int fd, uint64_t at, int copies);

void run_target(const struct options *options);
void use_bulk_up(const struct options *options);
void use_bulk_down(const struct options *options);
void use_tcp_requests(const struct options *options);
void use_udp_requests(const struct options *options);
void use_short(const struct options *options);
void use_idle(const struct options *options);
void use_packets(const struct options *options);
void run_relay_near(const struct options *options);
void run_relay_far(const struct options *options);

#endif
