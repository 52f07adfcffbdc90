/* Exact sums over sketches (sketches_numpy.py says what is computed). */
#ifndef MP_SKETCHES_H
#define MP_SKETCHES_H

#include "native.h"

#define SKETCH_ROWS 8 /* of all experts that are multiplied at a time */

/* Rows of `width` numbers; NULL of an expert that has none, as if they were 0. */
typedef struct {
    const i8 **vectors;
    const i64 *rows;
    i64 experts, count, width;
} Sketches;

void sketch_squares(const Sketches *sketches, double *squares);

/* `scale` (experts, count) whole numbers; the sums stay below 2^53. `scratch`: experts * SKETCH_ROWS * width. */
void sketch_products(const Sketches *sketches, const double *scale, double *products, double *scratch);

#endif
