/* Whether the coders take sixteen lanes at a time: 32-bit lanes are packed with what AVX-512F has, words of 16 bits
   are stored by mask with BW and VL. VECTORS is defined where they do. */
#ifndef MP_RANS_VECTORS_H
#define MP_RANS_VECTORS_H

#include "native.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>
#define VECTORS 1

static inline __m512i number(u32 value) { return _mm512_set1_epi32((int)value); }

#endif
#endif
