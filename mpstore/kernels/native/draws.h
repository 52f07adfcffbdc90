/* The counter-based generator of random_numpy: draws 2i and 2i + 1 of a key are the low and the high half of
   splitmix64's i-th output. */
#ifndef MP_DRAWS_H
#define MP_DRAWS_H

#include "native.h"

#define GOLDEN 0x9E3779B97F4A7C15u
#define MIX1 0xBF58476D1CE4E5B9u
#define MIX2 0x94D049BB133111EBu

/* Two draws, the first in the low half: the output whose state is key + (offset / 2 + 1) * GOLDEN. */
static inline u64 two_draws(u64 state) {
    state = (state ^ state >> 30) * MIX1;
    state = (state ^ state >> 27) * MIX2;
    return state ^ state >> 31;
}

#endif
