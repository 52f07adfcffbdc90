/* Greedy orders of reading (greedy_numpy.py says what is computed). Matrices have a row an expert, or a step. */
#ifndef MP_GREEDY_H
#define MP_GREEDY_H

#include "native.h"

#define GREEDY_LANES 16 /* columns that are walked beside each other */

/* What a walk is given: (experts, count) `member`, `error`, `cost`; `similarity` (tensors, experts, experts) and each
   column's `tensor`. `number` NULL: no delta base is shared; else `number` and `bytes` (experts, count). */
typedef struct {
    i64 experts, count, steps;
    const u8 *member;
    const double *error, *cost, *similarity;
    const i64 *tensor, *number;
    const double *bytes;
} Choices;

void towards(const double *error, const double *similarity, const i64 *tensor, i64 experts, i64 count, double *out);

/* `scratch`: 5 * experts * GREEDY_LANES doubles. */
void walk(const Choices *choices, const double *drop, const double *square, i32 *path, double *paid, double *norms,
          double *scratch);

/* Returns how many segments there are; `scratch`: 2 * steps doubles, `starts`: steps. */
i64 hull(const i32 *path, const double *gain, const double *cost, i64 steps, i64 count, i32 *segment, double *density,
         i64 *segments, double *scratch, i64 *starts);

void enter_units(const i32 *path, const i32 *segment, i64 steps, i64 count, const i64 *starts, const i64 *rank,
                 i64 ranks, const i64 *blocks, i64 *unit, i64 experts, i64 width);

#endif
