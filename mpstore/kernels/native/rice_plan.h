/* What rice.c decides before it codes: tiles and parameters. All of it exactly as rice_numpy.py does. */
#ifndef MP_RICE_PLAN_H
#define MP_RICE_PLAN_H

#include "native.h"

#define CONTEXTS 16
#define STEPS 12
#define SPARSE 0x80
#define RICE_HEADER_BYTES 6
#define LARGEST_TILE 12
#define SAMPLED 4
#define SAMPLED_FROM 256
#define MOST_TOKENS 136
#define MOST_STREAMS (2 + STEPS + 63 + 1)

static inline int token_of(u64 distance) {
    if (distance < 16) return (int)distance;
    int octave = 63 - __builtin_clzll(distance);
    return 16 + 2 * (octave - 4) + (int)((distance >> (octave - 1)) & 1);
}

/* Of each group, whether all of its distances are zero; tile as the segment has it. */
int rice_choose_tile(const u8 *zero, i64 groups);

u8 rice_choose_parameter(const u32 *counts, int tokens, int bits);

#endif
