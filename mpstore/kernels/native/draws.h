/* The counter-based generator of random_numpy: draw i of a key is splitmix64's i-th output. */
#ifndef MP_DRAWS_H
#define MP_DRAWS_H

#include "native.h"

#define GOLDEN 0x9E3779B97F4A7C15u
#define MIX1 0xBF58476D1CE4E5B9u
#define MIX2 0x94D049BB133111EBu
#define DRAW_BITS 53

/* The draw whose state is key + (offset + 1) * GOLDEN. */
static inline u64 draw_of(u64 state) {
    state = (state ^ state >> 30) * MIX1;
    state = (state ^ state >> 27) * MIX2;
    return (state ^ state >> 31) >> (64 - DRAW_BITS);
}

#endif
