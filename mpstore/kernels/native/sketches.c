/* Sums of whole numbers below 2^53: no order of adding shows in them, so that lanes may have sums of their own. */
#include "sketches.h"

#define LANES 8

void sketch_squares(const Sketches *s, double *squares) {
    for (i64 expert = 0; expert < s->experts; expert++)
        for (i64 k = 0; k < s->count; k++) {
            i64 sum = 0;
            const i8 *own = s->vectors[expert] ? s->vectors[expert] + s->rows[k] * s->width : NULL;
            for (i64 i = 0; own && i < s->width; i++) sum += (i32)own[i] * own[i];
            squares[expert * s->count + k] = (double)sum;
        }
}

/* Some rows of every expert, scaled. */
static void spread(const Sketches *s, const double *scale, i64 first, i64 wide, double *out) {
    for (i64 expert = 0; expert < s->experts; expert++)
        for (i64 k = first; k < first + wide; k++, out += s->width) {
            double by = scale[expert * s->count + k];
            const i8 *own = s->vectors[expert] ? s->vectors[expert] + s->rows[k] * s->width : NULL;
            for (i64 i = 0; i < s->width; i++) out[i] = own ? by * own[i] : 0.0;
        }
}

static double product(const double *restrict a, const double *restrict b, i64 items) {
    double sums[LANES] = {0}, sum = 0.0;
    i64 at = 0;
    for (; at + LANES <= items; at += LANES)
        for (i64 l = 0; l < LANES; l++) sums[l] += a[at + l] * b[at + l];
    for (; at < items; at++) sum += a[at] * b[at];
    for (i64 l = 0; l < LANES; l++) sum += sums[l];
    return sum;
}

void sketch_products(const Sketches *s, const double *scale, double *products, double *scratch) {
    memset(products, 0, (size_t)(s->experts * s->experts) * sizeof *products);
    for (i64 first = 0; first < s->count; first += SKETCH_ROWS) {
        i64 wide = least(SKETCH_ROWS, s->count - first), items = wide * s->width;
        spread(s, scale, first, wide, scratch);
        for (i64 i = 0; i < s->experts; i++)
            for (i64 j = 0; j <= i; j++)
                products[i * s->experts + j] += product(scratch + i * items, scratch + j * items, items);
    }
    for (i64 i = 0; i < s->experts; i++)
        for (i64 j = i + 1; j < s->experts; j++) products[i * s->experts + j] = products[j * s->experts + i];
}
