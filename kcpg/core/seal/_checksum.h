/* The checksum of the algorithms "none" and "XOR": a number mod 2^127-1.
   The plain-Python twin is `_Checksum` in seal.py. */
#ifndef KCPG_CHECKSUM_H
#define KCPG_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef unsigned __int128 kcpg_u128;
typedef uint64_t kcpg_lanes __attribute__((vector_size(32)));

/* Pairs of blocks that a lane takes before its upper half must be carried on:
   2^34 * 4^14 + 2^32 * (1 + 4 + .. + 4^13) < 2^63. */
#define KCPG_PAIRS 14

/* Blocks that are not worth the vectors. */
#define KCPG_FEW 8

#define KCPG_M127 (((kcpg_u128)1 << 127) - 1)

/* x mod 2^127-1 for any x. */
static inline kcpg_u128 kcpg_fold(kcpg_u128 x)
{
    x = (x & KCPG_M127) + (x >> 127);
    return x >= KCPG_M127 ? x - KCPG_M127 : x;
}

/* x * 2^turn mod 2^127-1, for x < 2^127 and turn < 127. */
static inline kcpg_u128 kcpg_turn(kcpg_u128 x, unsigned turn)
{
    return ((x << turn) & KCPG_M127) | (x >> (127 - turn));
}

/* Little-endian 16 bytes as a number. */
static inline kcpg_u128 kcpg_load(const uint8_t *p)
{
    uint64_t lo, hi;
    memcpy(&lo, p, 8);
    memcpy(&hi, p + 8, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    lo = __builtin_bswap64(lo);
    hi = __builtin_bswap64(hi);
#endif
    return (kcpg_u128)hi << 64 | lo;
}

/* The number of `blocks` blocks of 16 bytes with `top` above them. As 2^128 = 2, it is the sum of
   block[i] * 2^i: Horner's rule from the last pair of blocks down, in lanes of 64 bits for the lower and the
   upper 32 bits of each word. */
static inline __attribute__((always_inline))
kcpg_u128 kcpg_blocks(const uint8_t *p, size_t blocks, kcpg_u128 top)
{
    const kcpg_lanes half = {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff};
    const kcpg_lanes first = {~(uint64_t)0, 0, ~(uint64_t)0, 0};
    size_t pairs = blocks / 2, n = pairs % KCPG_PAIRS;
    kcpg_lanes low, high, word;
    kcpg_u128 sum[4];
    int i;
    if (blocks % 2)
        top = kcpg_fold(kcpg_turn(top, 1) + kcpg_fold(kcpg_load(p + 32 * pairs)));
    word = (kcpg_lanes){(uint64_t)top, (uint64_t)(top >> 64), 0, 0};
    low = word & half;
    high = word >> 32;
    for (; pairs; n = KCPG_PAIRS) {
        for (; n; n--) {
            memcpy(&word, p + 32 * --pairs, 32);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
            for (i = 0; i < 4; i++)
                word[i] = __builtin_bswap64(word[i]);
#endif
            low = (low << 2) + (word & half);
            high = (high << 2) + (word >> 32);
        }
        /* What overflows goes into the next 32 bits, from 2^128 to 2 * 2^0. */
        high += low >> 32;
        word = high >> 32;
        word = (kcpg_lanes){word[1], word[0], word[3], word[2]};
        low = (low & half) + word + (word & first);
        high &= half;
    }
    for (i = 0; i < 2; i++) {
        sum[2 * i] = (kcpg_u128)low[i] + 2 * (kcpg_u128)low[i + 2];
        sum[2 * i + 1] = (kcpg_u128)high[i] + 2 * (kcpg_u128)high[i + 2];
    }
    return kcpg_fold(kcpg_fold(sum[0] + (sum[1] << 32) + kcpg_turn(sum[2], 64)) + kcpg_turn(sum[3], 96));
}

static kcpg_u128 kcpg_blocks_plain(const uint8_t *p, size_t blocks, kcpg_u128 top)
{
    return kcpg_blocks(p, blocks, top);
}

#if defined(__x86_64__)
/* The same with four lanes in one register. */
static __attribute__((target("avx2")))
kcpg_u128 kcpg_blocks_avx2(const uint8_t *p, size_t blocks, kcpg_u128 top)
{
    return kcpg_blocks(p, blocks, top);
}
#endif

/* The number of p[0..n) with the byte `top` behind it, mod 2^127-1. */
static inline kcpg_u128 kcpg_residue(const uint8_t *p, size_t n, uint8_t top)
{
    uint8_t end[16] = {0};
    size_t rest = n % 16, blocks = n / 16;
    kcpg_u128 sum;
    memcpy(end, p + n - rest, rest);
    end[rest] = top;
    sum = kcpg_load(end);
    if (blocks < KCPG_FEW) {
        while (blocks)
            sum = kcpg_fold(kcpg_turn(sum, 1) + kcpg_fold(kcpg_load(p + 16 * --blocks)));
        return sum;
    }
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        return kcpg_blocks_avx2(p, blocks, sum);
#endif
    return kcpg_blocks_plain(p, blocks, sum);
}

/* The number of aad || p || 0x01, mod 2^127-1, little-endian. */
static void kcpg_checksum(const uint8_t *aad, size_t aadlen, const uint8_t *p, size_t n, uint8_t *out)
{
    kcpg_u128 x = kcpg_turn(kcpg_residue(p, n, 1), (unsigned)(8 * aadlen % 127));
    int i;
    x = kcpg_fold(x + kcpg_residue(aad, aadlen, 0));
    for (i = 0; i < 16; i++)
        out[i] = (uint8_t)(x >> (8 * i));
}

/* buf[0..n) xor the repeated 32 bytes of `key`. */
static void kcpg_obscure(const uint8_t *key, uint8_t *buf, size_t n)
{
    uint64_t pad[4], word[4];
    size_t at, i;
    memcpy(pad, key, 32);
    for (at = 0; at + 32 <= n; at += 32) {
        memcpy(word, buf + at, 32);
        for (i = 0; i < 4; i++)
            word[i] ^= pad[i];
        memcpy(buf + at, word, 32);
    }
    for (i = 0; at + i < n; i++)
        buf[at + i] ^= key[i];
}

#endif
