/* CRC-32 of IEEE 802.3, as zlib's crc32: by carry-less multiplication where the processor has it, else by tables.

   The method is that of Intel's paper "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction"
   (2009): 64 bytes are folded onto the next 64, then 16 onto 16, and what is left is reduced to 32 bits. Its constants
   are remainders of powers of x by the polynomial, bits reversed. */
#ifndef KCPG_CRC32_H
#define KCPG_CRC32_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define KCPG_CRC_X86 1
#include <immintrin.h>
#endif

#define KCPG_CRC_POLYNOMIAL 0xEDB88320u     /* bits reversed */

static uint32_t kcpg_crc_table[8][256];
static int kcpg_crc_folds;

static void kcpg_crc_begin(void)
{
    unsigned i, k;
    for (i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (k = 0; k < 8; k++)
            crc = crc >> 1 ^ (KCPG_CRC_POLYNOMIAL & (0u - (crc & 1)));
        kcpg_crc_table[0][i] = crc;
    }
    for (i = 0; i < 256; i++)
        for (k = 1; k < 8; k++)
            kcpg_crc_table[k][i] =
                kcpg_crc_table[k - 1][i] >> 8 ^ kcpg_crc_table[0][kcpg_crc_table[k - 1][i] & 255];
#ifdef KCPG_CRC_X86
    __builtin_cpu_init();
    kcpg_crc_folds = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#endif
}

/* Eight bytes at a time; `crc` is what stands in the register, not the answer. */
static uint32_t kcpg_crc_by_tables(uint32_t crc, const uint8_t *p, size_t n)
{
    while (n >= 8) {
        crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        crc = kcpg_crc_table[7][crc & 255] ^ kcpg_crc_table[6][crc >> 8 & 255] ^ kcpg_crc_table[5][crc >> 16 & 255]
            ^ kcpg_crc_table[4][crc >> 24] ^ kcpg_crc_table[3][p[4]] ^ kcpg_crc_table[2][p[5]]
            ^ kcpg_crc_table[1][p[6]] ^ kcpg_crc_table[0][p[7]];
        p += 8;
        n -= 8;
    }
    while (n--)
        crc = crc >> 8 ^ kcpg_crc_table[0][(crc ^ *p++) & 255];
    return crc;
}

#ifdef KCPG_CRC_X86
#define KCPG_FOLD(x, k, next) _mm_xor_si128(_mm_xor_si128( \
    _mm_clmulepi64_si128(x, k, 0x00), _mm_clmulepi64_si128(x, k, 0x11)), next)

/* A multiple of 16 bytes, 64 at least. */
__attribute__((target("pclmul,sse4.1")))
static uint32_t kcpg_crc_by_folding(uint32_t crc, const uint8_t *p, size_t n)
{
    const __m128i by64 = _mm_set_epi64x(0x00000001c6e41596, 0x0000000154442bd4);
    const __m128i by16 = _mm_set_epi64x(0x00000000ccaa009e, 0x00000001751997d0);
    const __m128i to64 = _mm_set_epi64x(0, 0x0000000163cd6124);
    const __m128i barrett = _mm_set_epi64x(0x00000001f7011641, 0x00000001db710641);
    const __m128i low32 = _mm_setr_epi32(-1, 0, -1, 0);
    const __m128i *at = (const __m128i *)p;
    __m128i a = _mm_xor_si128(_mm_loadu_si128(at), _mm_cvtsi32_si128((int)crc));
    __m128i b = _mm_loadu_si128(at + 1), c = _mm_loadu_si128(at + 2), d = _mm_loadu_si128(at + 3), t;
    at += 4;
    n -= 64;
    while (n >= 64) {
        a = KCPG_FOLD(a, by64, _mm_loadu_si128(at));
        b = KCPG_FOLD(b, by64, _mm_loadu_si128(at + 1));
        c = KCPG_FOLD(c, by64, _mm_loadu_si128(at + 2));
        d = KCPG_FOLD(d, by64, _mm_loadu_si128(at + 3));
        at += 4;
        n -= 64;
    }
    a = KCPG_FOLD(a, by16, b);
    a = KCPG_FOLD(a, by16, c);
    a = KCPG_FOLD(a, by16, d);
    for (; n >= 16; n -= 16)
        a = KCPG_FOLD(a, by16, _mm_loadu_si128(at++));
    t = _mm_clmulepi64_si128(a, by16, 0x10);                        /* 128 bits to 96 */
    a = _mm_xor_si128(_mm_srli_si128(a, 8), t);
    t = _mm_clmulepi64_si128(_mm_and_si128(a, low32), to64, 0x00);  /* to 64 */
    a = _mm_xor_si128(_mm_srli_si128(a, 4), t);
    t = _mm_clmulepi64_si128(_mm_and_si128(a, low32), barrett, 0x10);
    t = _mm_clmulepi64_si128(_mm_and_si128(t, low32), barrett, 0x00);
    return (uint32_t)_mm_extract_epi32(_mm_xor_si128(a, t), 1);
}
#endif

static uint32_t kcpg_crc32(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xFFFFFFFFu;
#ifdef KCPG_CRC_X86
    if (kcpg_crc_folds && n >= 64) {
        size_t whole = n & ~(size_t)15;
        crc = kcpg_crc_by_folding(crc, p, whole);
        p += whole;
        n -= whole;
    }
#endif
    return ~kcpg_crc_by_tables(crc, p, n);
}
#endif
