/* The merge executor's loops over values: the compiled side of execute_numpy. */
#include "execute.h"

void widen_bf16(const u16 *restrict words, i64 count, float *restrict out) {
    for (i64 i = 0; i < count; i++) out[i] = float_of((u32)words[i] << 16);
}

i64 count_nonfinite(const float *restrict values, i64 count) {
    i64 found = 0;
    for (i64 i = 0; i < count; i++) found += (bits_of(values[i]) & MAGNITUDE) >= INFINITE;
    return found;
}
