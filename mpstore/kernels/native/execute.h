/* execute.c: the merge executor's loops over values (execute_numpy). Where a function returns a number, it is how
   many values are NaN or infinite, unless it says otherwise. */
#ifndef MP_EXECUTE_H
#define MP_EXECUTE_H

#include "native.h"

#define DOT_CHUNK 64

void widen_bf16(const u16 *restrict words, i64 count, float *restrict out);
void widen_f16(const u16 *restrict words, i64 count, float *restrict out);
i64 count_nonfinite(const float *restrict values, i64 count);

/* out = values - base, 0 where they are equal as numbers or as bits. */
i64 difference(const float *restrict values, const float *restrict base, i64 count, float *restrict out);
i64 difference_bf16(const u16 *restrict words, const float *restrict base, i64 count, float *restrict out);
i64 difference_f16(const u16 *restrict words, const float *restrict base, i64 count, float *restrict out);

/* Count into counts[j] the elements with low + (j << shift) <= pattern(|delta|) < low + (j + 1 << shift);
   0 <= low <= 2^31, 0 <= shift < 32. */
void count_magnitudes(const float *restrict delta, i64 count, i64 low, int shift, u32 *restrict counts,
                      i64 bins);
/* Put the patterns low <= pattern(|delta|) < high into `out`, in order; how many. `out` has room for `count`. */
i64 collect_magnitudes(const float *restrict delta, i64 count, i64 low, i64 high, u32 *restrict out);

/* out[c] = inner product of elements 64 c .. 64 c + 63, in eight lanes and a fixed tree. */
void dot_chunks(const float *restrict a, const float *restrict b, i64 count, double *restrict out);

/* out = values, but base where they are equal or base is NaN; then rounded to the nearest, ties to even. */
i64 settle(const float *restrict values, const float *restrict base, i64 count, float *restrict out);
i64 narrow_bf16(const float *restrict values, const float *restrict base, i64 count, u16 *restrict out);
i64 narrow_f16(const float *restrict values, const float *restrict base, i64 count, u16 *restrict out);

#endif
