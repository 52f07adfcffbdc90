/* The head of a segment in tiers, and what an encoder chooses: exactly as tiers_numpy.py has them.

   An element is calm if its base word, without the top bit, is at least `calm`. A byte of each coded group says in
   which of its rows calm elements are told; a bit of each element that is told, or not calm, whether it is not zero.
   Of the code of such an element (its distance less one) the first tier has the `low` lowest bits, and whether more
   follows; of the rest less one the second has the `middle` lowest, and whether more follows; of the rest less one the
   third has a byte; if that is FULL, the last has the distance. */
#ifndef MP_TIERS_HEAD_H
#define MP_TIERS_HEAD_H

#include "bitstream.h"
#include "tiles.h"

#define TIERS_HEADER_BYTES 4
#define MOST_BITS 7 /* of the first two tiers together: what they tell fits a byte */
#define MOST_LOW 5
#define FULL 255
#define NO_CALM 0xFFFF /* `calm`, where no element is; there are no bytes for rows then */
#define WITHOUT_TOP 0x7FFF
#define ROWS 0    /* streams: bytes of rows, */
#define NONZERO 1 /* bits of elements, */
#define FIRST 2   /* `low` planes and a flag, `middle` planes and a flag, bytes, words */
#define MOST_STREAMS (FIRST + MOST_BITS + 4)
#define COUNTED 4096 /* distances that are told apart when bits are chosen, */
#define KEYS 256     /* and base words when it is chosen who is calm, */
#define KEY_SHIFT 7  /* by the bits above these */

typedef struct {
    int low, middle, tile;
    u16 calm;
} TierHead;

static inline int second_tier(const TierHead *head) { return FIRST + head->low + 1; }
static inline int third_tier(const TierHead *head) { return second_tier(head) + head->middle + 1; }

/* Of sampled groups: how often each distance is seen (COUNTED - 1: and larger), how many elements have each key, and
   how many of these are not zero. */
typedef struct {
    u32 distances[COUNTED], keys[KEYS], moved[KEYS];
    i64 groups;
} TierCounts;

u16 choose_calm(const TierCounts *counts);

/* `low` and `middle` that take the fewest bits, by sampled distances. */
void choose_tiers(const TierCounts *counts, TierHead *head);

/* Bytes of the segment in `out`, -1 where these would not be fewer than `capacity`. `third`, `words`: the
   last two streams. */
i64 tiers_write(const TierHead *head, const u8 *coded, i64 groups, Sink *sinks, const u8 *third, i64 third_bytes,
                const u16 *words, i64 word_bytes, u8 *out, i64 capacity);

typedef struct {
    const u8 *segment, *map;
    i64 size, third_bytes, word_bytes; /* taken of the last two streams */
    Source sources[MOST_STREAMS];
    bool sound;
} TierReader;

/* The head of a segment over so many groups; false: it is none. */
bool tiers_read(TierReader *reader, TierHead *head, const u8 *segment, i64 size, i64 groups);

/* Whether all that the segment holds was taken, and no more. */
bool tiers_ended(const TierReader *reader, const TierHead *head);

#endif
