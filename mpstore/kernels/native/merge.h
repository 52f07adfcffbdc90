/* merge.c: deltas in float32 to a merged block (merge_numpy), and counter-based draws (random_numpy). */
#ifndef MP_MERGE_H
#define MP_MERGE_H

#include "native.h"

#define PIECE 256        /* elements that are merged at a time: their parts stay in the nearest caches */
#define MOST_DELTAS 64   /* for which a piece has room */

/* merge_numpy.Terms: columns of `count` deltas. `exact`: the weights that agreeing deltas are divided by. */
typedef struct {
    i64 count;
    const float *weight, *scale, *low, *high;
    const u64 *key, *keep;
    const double *exact;
    bool random, elect, normalize;
    float divisor, factor, base_scale;
    i64 spare;
} Terms;

/* The weighed deltas of up to PIECE elements, one row a delta that has any. 64 KiB: on the stack. */
typedef struct {
    float rows[MOST_DELTAS][PIECE];
    i64 delta[MOST_DELTAS]; /* which delta a row is of */
    i64 used;
    u32 top, bottom;        /* the largest magnitude's pattern, and the smallest's that is not 0, less 1 */
} Parts;

void begin_parts(Parts *parts);

/* Add the row of delta e: `width` elements, `first` the offset of the first in its tensor. */
void weigh(Parts *restrict parts, const Terms *terms, i64 e, const float *restrict delta, i64 width, u64 first);

/* From all rows to base * base_scale + factor * (their sum). */
void merge_parts(const Parts *restrict parts, const Terms *terms, const float *restrict base, i64 width,
                 float *restrict out);

/* merge_numpy.combine: `count` elements, at most MOST_DELTAS deltas. */
void merge_combine(const float *restrict base, const float *const *deltas, const Terms *terms, u64 start,
                   i64 count, float *restrict out);

#endif
