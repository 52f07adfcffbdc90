/* What rice.c decides before it codes, and the segment's head: exactly as rice_numpy.py has them. */
#ifndef MP_RICE_PLAN_H
#define MP_RICE_PLAN_H

#include "bitstream.h"
#include "tiles.h"

#define CONTEXTS 16
#define STEPS 12
#define QUOTIENT_BITS 4
#define SPARSE 0x80  /* of a parameter: zeros are told by rows and groups, */
#define FLAGGED 0x40 /* a bit tells zeros from the rest, whose code is that of one less, */
#define K_MASK 0x3F  /* low bits */
#define FEW 63 /* elements of a strip that are taken as one group, */
#define FEW_LISTED 40 /* and one by one */
#define FLAG_STREAMS 3 /* of groups, of rows, of single elements */
#define RICE_HEADER_BYTES 6
#define ZERO_GROUP_BITS 16 /* that coding one is taken to cost */
#define SAMPLED 8
#define SAMPLED_FROM 256
#define MOST_TOKENS 136
#define MOST_KEYS 2048 /* exponents of a float64 */
#define MOST_STREAMS (FLAG_STREAMS + STEPS + 63 + 1)

static inline int token_of(u64 distance) {
    if (distance < 16) return (int)distance;
    int octave = 63 - __builtin_clzll(distance);
    return 16 + 2 * (octave - 4) + (int)((distance >> (octave - 1)) & 1);
}

/* The same with no branch and in 32 bits, which compilers make vectors of. */
static inline int short_token_of(u32 distance) {
    int octave = 31 - __builtin_clz(distance | 8), wide = 8 + 2 * octave + (int)((distance >> (octave - 1)) & 1);
    return distance < 16 ? (int)distance : wide;
}

u8 rice_choose_parameter(const u32 *counts, int tokens, int bits);

typedef struct {
    int shift;
    u64 lowest;
    int contexts, tile, planes;
    const u8 *parameters; /* sixteen where it was read */
    const u8 *coded;      /* where it is written: of each group; read: the map */
    i64 groups;
} RiceHead;

/* Bytes of the segment in `out`, -1 where these would not be fewer than `capacity`. */
i64 rice_write(const RiceHead *head, Sink *sinks, const u8 *escapes, i64 escape_bytes, u8 *out, i64 capacity);

typedef struct {
    const u8 *segment;
    i64 size, escaped_bytes;
    Source sources[MOST_STREAMS];
    int planes;
    bool sound;
} RiceReader;

/* The head of a segment over a block of so many words of so many bits, of which `mask` tell the key; false: it is none. `parameters`: room for sixteen. */
bool rice_read(RiceReader *reader, RiceHead *head, u8 *parameters, const u8 *segment, i64 size, i64 words, int bits,
               u64 mask);

/* Whether all that the segment holds was taken, and no more. */
bool rice_ended(const RiceReader *reader);

#endif
