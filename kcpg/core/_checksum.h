/* The checksum of the algorithms "none" and "XOR": a number mod 2^127-1 with 128-bit arithmetic.
   The plain-Python twin is `_Checksum` in seal.py. */
#ifndef KCPG_CHECKSUM_H
#define KCPG_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef unsigned __int128 kcpg_u128;

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

#define KCPG_M127 (((kcpg_u128)1 << 127) - 1)

/* x mod 2^127-1 for any x. */
static inline kcpg_u128 kcpg_fold(kcpg_u128 x)
{
    x = (x & KCPG_M127) + (x >> 127);
    return x >= KCPG_M127 ? x - KCPG_M127 : x;
}

/* The number of p[0..n) with the byte `top` behind it, mod 2^127-1. Horner's rule from the last 16-byte block
   down: as 2^128 = 2, a step doubles and adds. What overflows 128 bits gathers in `over`, one more bit a
   step, and is folded in before it could fill 64. */
static kcpg_u128 kcpg_residue(const uint8_t *p, size_t n, uint8_t top)
{
    uint8_t end[16] = {0};
    size_t rest = n % 16, blocks = n / 16;
    kcpg_u128 acc, block;
    uint64_t over = 0;
    memcpy(end, p + n - rest, rest);
    end[rest] = top;
    acc = kcpg_load(end);
    while (blocks) {
        size_t stop = blocks > 60 ? blocks - 60 : 0;
        while (blocks > stop) {
            block = kcpg_load(p + 16 * --blocks);
            over = over << 1 | (uint64_t)(acc >> 127);
            acc = (acc << 1) + block;
            over += acc < block;
        }
        acc = kcpg_fold(kcpg_fold(acc) + kcpg_fold((kcpg_u128)over << 1));
        over = 0;
    }
    return kcpg_fold(acc);
}

/* The number of aad || p || 0x01, mod 2^127-1, little-endian. */
static void kcpg_checksum(const uint8_t *aad, size_t aadlen, const uint8_t *p, size_t n, uint8_t *out)
{
    unsigned turn = (unsigned)(8 * aadlen % 127);
    kcpg_u128 x = kcpg_residue(p, n, 1);
    int i;
    x = ((x << turn) & KCPG_M127) | (x >> (127 - turn));     /* times 2^(8*aadlen) */
    x = kcpg_fold(x + kcpg_residue(aad, aadlen, 0));
    for (i = 0; i < 16; i++)
        out[i] = (uint8_t)(x >> (8 * i));
}

#endif
