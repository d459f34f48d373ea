/* dst ^= coef * src over GF(2^8) with the polynomial x^8+x^4+x^3+x^2+1 (0x11D), the field of zfec.

   One function per instruction set, chosen once at import by what the processor has; all give the same bytes.
   The plain-Python twin is `combine` in code.py. */
#ifndef KCPG_GF256_H
#define KCPG_GF256_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define KCPG_GF_X86 1
#include <immintrin.h>
#endif

#define KCPG_GF_POLYNOMIAL 0x11D

typedef void (*kcpg_gf_fn)(uint8_t *dst, const uint8_t *src, uint8_t coef, size_t n);

static uint8_t kcpg_gf_exp[512];            /* of 0..509, so that a sum of two logarithms needs no modulo */
static uint8_t kcpg_gf_log[256];            /* log[0] is meaningless */
static uint8_t kcpg_gf_low[256][16];        /* coef times each low half byte ... */
static uint8_t kcpg_gf_high[256][16];       /* ... and each high one */
static uint64_t kcpg_gf_matrix[256];        /* multiplication by coef as the bit matrix of GF2P8AFFINEQB */

static inline uint8_t kcpg_gf_times(uint8_t coef, uint8_t x)
{
    return kcpg_gf_low[coef][x & 15] ^ kcpg_gf_high[coef][x >> 4];
}

static void kcpg_gf_tables(void)
{
    unsigned coef, i, bit, x = 1;
    for (i = 0; i < 255; i++) {
        kcpg_gf_exp[i] = kcpg_gf_exp[i + 255] = (uint8_t)x;
        kcpg_gf_log[x] = (uint8_t)i;
        x <<= 1;
        if (x & 0x100)
            x ^= KCPG_GF_POLYNOMIAL;
    }
    for (coef = 1; coef < 256; coef++) {
        for (i = 1; i < 16; i++) {
            kcpg_gf_low[coef][i] = kcpg_gf_exp[kcpg_gf_log[coef] + kcpg_gf_log[i]];
            kcpg_gf_high[coef][i] = kcpg_gf_exp[kcpg_gf_log[coef] + kcpg_gf_log[i << 4]];
        }
        /* Output bit i is the parity of byte 7-i of the matrix and the input: that byte's bit k says whether
           coef * 2^k has bit i. */
        kcpg_gf_matrix[coef] = 0;
        for (i = 0; i < 8; i++)
            for (bit = 0; bit < 8; bit++)
                if (kcpg_gf_times((uint8_t)coef, (uint8_t)(1 << bit)) >> i & 1)
                    kcpg_gf_matrix[coef] |= 1ull << (8 * (7 - i) + bit);
    }
}

static void kcpg_gf_tail(uint8_t *dst, const uint8_t *src, uint8_t coef, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++)
        dst[i] ^= kcpg_gf_times(coef, src[i]);
}

/* Without any special instruction: a shift-and-add multiplication of 64 bytes side by side, in loops that a
   compiler turns into whatever vectors the target has (NEON, VSX, SSE2). */
static void kcpg_gf_portable(uint8_t *dst, const uint8_t *src, uint8_t coef, size_t n)
{
    uint8_t x[64], sum[64];
    unsigned bits;
    int i;
    for (; n >= 64; n -= 64, src += 64, dst += 64) {
        memcpy(x, src, 64);
        memcpy(sum, dst, 64);
        for (bits = coef; bits; bits >>= 1) {
            uint8_t mask = (uint8_t)-(bits & 1);
            for (i = 0; i < 64; i++) {
                sum[i] ^= x[i] & mask;
                x[i] = (uint8_t)(x[i] << 1) ^ ((int8_t)x[i] < 0 ? KCPG_GF_POLYNOMIAL & 0xFF : 0);
            }
        }
        memcpy(dst, sum, 64);
    }
    kcpg_gf_tail(dst, src, coef, n);
}

#ifdef KCPG_GF_X86
/* Two table look-ups per byte, 16 or 32 bytes at a time: PSHUFB as Plank, Greenan and Miller use it, "Screaming
   fast Galois field arithmetic using Intel SIMD instructions", FAST 2013. */
__attribute__((target("ssse3")))
static void kcpg_gf_ssse3(uint8_t *dst, const uint8_t *src, uint8_t coef, size_t n)
{
    const __m128i low = _mm_loadu_si128((const __m128i *)kcpg_gf_low[coef]);
    const __m128i high = _mm_loadu_si128((const __m128i *)kcpg_gf_high[coef]);
    const __m128i half = _mm_set1_epi8(15);
    for (; n >= 16; n -= 16, src += 16, dst += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)src);
        __m128i y = _mm_xor_si128(
            _mm_shuffle_epi8(low, _mm_and_si128(x, half)),
            _mm_shuffle_epi8(high, _mm_and_si128(_mm_srli_epi64(x, 4), half)));
        _mm_storeu_si128((__m128i *)dst, _mm_xor_si128(y, _mm_loadu_si128((const __m128i *)dst)));
    }
    kcpg_gf_tail(dst, src, coef, n);
}

__attribute__((target("avx2")))
static void kcpg_gf_avx2(uint8_t *dst, const uint8_t *src, uint8_t coef, size_t n)
{
    const __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)kcpg_gf_low[coef]));
    const __m256i high = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)kcpg_gf_high[coef]));
    const __m256i half = _mm256_set1_epi8(15);
    for (; n >= 32; n -= 32, src += 32, dst += 32) {
        __m256i x = _mm256_loadu_si256((const __m256i *)src);
        __m256i y = _mm256_xor_si256(
            _mm256_shuffle_epi8(low, _mm256_and_si256(x, half)),
            _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi64(x, 4), half)));
        _mm256_storeu_si256((__m256i *)dst, _mm256_xor_si256(y, _mm256_loadu_si256((const __m256i *)dst)));
    }
    kcpg_gf_ssse3(dst, src, coef, n);
}

/* GFNI multiplies by a bit matrix, so that it serves any polynomial (its own multiplication knows only 0x11B). */
__attribute__((target("avx2,gfni")))
static void kcpg_gf_gfni256(uint8_t *dst, const uint8_t *src, uint8_t coef, size_t n)
{
    const __m256i matrix = _mm256_set1_epi64x((long long)kcpg_gf_matrix[coef]);
    for (; n >= 32; n -= 32, src += 32, dst += 32) {
        __m256i y = _mm256_gf2p8affine_epi64_epi8(_mm256_loadu_si256((const __m256i *)src), matrix, 0);
        _mm256_storeu_si256((__m256i *)dst, _mm256_xor_si256(y, _mm256_loadu_si256((const __m256i *)dst)));
    }
    kcpg_gf_ssse3(dst, src, coef, n);
}

__attribute__((target("avx512f,avx512bw,gfni")))
static void kcpg_gf_gfni512(uint8_t *dst, const uint8_t *src, uint8_t coef, size_t n)
{
    const __m512i matrix = _mm512_set1_epi64((long long)kcpg_gf_matrix[coef]);
    for (; n >= 64; n -= 64, src += 64, dst += 64) {
        __m512i y = _mm512_gf2p8affine_epi64_epi8(_mm512_loadu_si512(src), matrix, 0);
        _mm512_storeu_si512(dst, _mm512_xor_si512(y, _mm512_loadu_si512(dst)));
    }
    if (n) {
        const __mmask64 some = ~0ull >> (64 - n);
        __m512i y = _mm512_gf2p8affine_epi64_epi8(_mm512_maskz_loadu_epi8(some, src), matrix, 0);
        y = _mm512_xor_si512(y, _mm512_maskz_loadu_epi8(some, dst));
        _mm512_mask_storeu_epi8(dst, some, y);
    }
}
#endif

/* The kernels this processor can run, best first. */
static int kcpg_gf_kernels(const char **names, kcpg_gf_fn *functions)
{
    int count = 0;
#ifdef KCPG_GF_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx512bw")) {
        names[count] = "gfni512";
        functions[count++] = kcpg_gf_gfni512;
    }
    if (__builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx2")) {
        names[count] = "gfni256";
        functions[count++] = kcpg_gf_gfni256;
    }
    if (__builtin_cpu_supports("avx2")) {
        names[count] = "avx2";
        functions[count++] = kcpg_gf_avx2;
    }
    if (__builtin_cpu_supports("ssse3")) {
        names[count] = "ssse3";
        functions[count++] = kcpg_gf_ssse3;
    }
#endif
    names[count] = "portable";
    functions[count++] = kcpg_gf_portable;
    return count;
}

#endif
