/* What leaving candidates of a block out adds up to (omission_numpy.py says what is computed). */
#ifndef MP_OMISSION_H
#define MP_OMISSION_H

#include "native.h"

/* An order of reading: `steps` (count, experts) has the candidates of each block in that order, unit << row_bits | row,
   negative: none, and those come first. `error` (experts, count). */
typedef struct {
    const i64 *steps;
    const double *error;
    i64 experts, count, row_bits, piece;
} Reading;

/* Both add to `gains` (units) what each unit is worth, `piece` blocks at a time and among these step by step.
   `scratch`: piece * experts doubles, and 2 * experts more. */
void certified_drops(const Reading *reading, const double *fixed, const double *rounding, const double *total,
                     double *gains, i64 units, double *scratch);
void expected_rises(const Reading *reading, const double *cosines, const i32 *tensor, double *gains, i64 units,
                    double *scratch);

/* |sum of vectors of these sizes at these angles|^2 of each block. */
void angled_squares(const double *sizes, const double *cosines, const i32 *tensor, i64 experts, i64 count,
                    double *squares);

/* Adds the bytes of each block to its unit; negative units are none. */
void unit_costs(const i64 *unit, const i64 *bytes, i64 items, i64 *cost, i64 units);

#endif
