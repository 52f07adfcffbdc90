/* What coding and decoding tiers do with words. */
#ifndef MP_TIERS_WORDS_H
#define MP_TIERS_WORDS_H

#include "halves.h"
#include "tiers_head.h"

/* The calm elements of a group. */
static inline u64 calm_of(const u16 *base, u16 calm) {
    return halves_at_least(halves_and(load_halves(base), WITHOUT_TOP), calm);
}

#endif
