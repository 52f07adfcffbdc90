/* execute.c: the merge executor's loops over values (execute_numpy). */
#ifndef MP_EXECUTE_H
#define MP_EXECUTE_H

#include "native.h"

void widen_bf16(const u16 *restrict words, i64 count, float *restrict out);
i64 count_nonfinite(const float *restrict values, i64 count);

#endif
