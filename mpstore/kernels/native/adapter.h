/* adapter.c: a run of a low-rank product's elements (adapter_numpy). */
#ifndef MP_ADAPTER_H
#define MP_ADAPTER_H

#include "native.h"

/* left (rows, rank), right (rank, columns), `size` elements from `start` on; returns how many are not finite. */
i64 product_run(const float *restrict left, const float *restrict right, i64 rank, i64 columns, double scale,
                i64 start, i64 size, float *restrict out);

#endif
