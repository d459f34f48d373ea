/* As many packets of one size as the system carries: at most WINDOW of them are under way.

   The target counts what arrives in memory that both see, so the sender keeps the pace of what is between them and
   overflows no buffer: a window of small packets fits into the kernel's usual receive buffer (208 KiB, about 768 bytes
   of it for each). They leave in trains by UDP segmentation: a call for each costs 3 us, more than some systems need. */

#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum { WINDOW = 192, TRAIN = 32, MOST_TRAIN_BYTES = 60000, PAUSE_NS = 20000 };

static const double LOST_S = 0.05; /* silence after which what is under way is taken for lost */

static uint64_t number, given_up; /* of the next packet; before which none is waited for */

static void pause_ns(long ns) {
    struct timespec time = {0, ns};
    nanosleep(&time, NULL);
}

static void send_train(int fd, size_t size, int count) {
    static unsigned char train[MOST_PACKET_BYTES];
    for (int i = 0; i < count; i++) {
        unsigned char *packet = train + i * size;
        memset(packet, 0, 8);
        packet[0] = COUNTED;
        put_u64(packet + 8, number + i);
        memcpy(packet + 16, block + (number + i) % BLOCK_BYTES, size - 16);
    }
    if (send(fd, train, count * size, 0) < 0 && errno != ECONNREFUSED && errno != ENOBUFS)
        fail("packet %llu: %s", (unsigned long long)number, strerror(errno));
    number += count;
}

static void send_until(int fd, size_t size, double until_s) {
    int most = MOST_TRAIN_BYTES / (int)size;
    uint64_t last = shared->next;
    double alive_s = now_s(), at_s;
    most = most < 1 ? 1 : most > TRAIN ? TRAIN : most;
    while ((at_s = now_s()) < until_s) {
        uint64_t next = shared->next, under_way = number - (next > given_up ? next : given_up);
        if (under_way + most <= WINDOW)
            send_train(fd, size, most);
        else
            pause_ns(PAUSE_NS);
        if (next != last) {
            last = next;
            alive_s = at_s;
        } else if (under_way && at_s > alive_s + LOST_S) {
            given_up = number;
            alive_s = at_s;
        }
    }
}

void use_packets(const struct options *options) {
    int fd = connected(options, SOCK_DGRAM), size = options->size_bytes;
    if (setsockopt(fd, SOL_UDP, UDP_SEGMENT, &size, sizeof size))
        fail("this kernel has no UDP segmentation: %s", strerror(errno));
    shared->next = 0;
    send_until(fd, size, now_s() + (options->warm_s > 0.2 ? options->warm_s : 0.2));
    if (!shared->packets)
        send_until(fd, size, now_s() + 3); /* the first packets may meet a handshake */
    if (!shared->packets)
        fail("no packet arrived");
    say("begin\n");
    double began_s = now_s();
    uint64_t before = shared->packets, sent_before = number;
    send_until(fd, size, began_s + options->seconds);
    double seconds = now_s() - began_s;
    uint64_t sent = number - sent_before, here = shared->packets;
    say("end {\"packets\": %llu, \"seconds\": %.6f, ", (unsigned long long)(here - before), seconds);
    for (double until_s = now_s() + 1; now_s() < until_s && shared->packets < number;)
        pause_ns(1000000);
    uint64_t late = shared->packets - before;
    say("\"sent\": %llu, \"lost\": %llu, \"stale\": %llu}\n", (unsigned long long)sent,
        (unsigned long long)(sent > late ? sent - late : 0), (unsigned long long)shared->stale);
    if (shared->damaged)
        fail("%llu packets arrived different", (unsigned long long)shared->damaged);
    say("settled\n");
}
