/* Places of values in a sort by falling value (ranks_numpy.py says what is computed): before and after the sort. */
#ifndef MP_RANKS_H
#define MP_RANKS_H

#include "native.h"

/* Of each value (not NaN) a number that sorts as the values fall: its leading bits above its index, in `bits` bits. */
void falling_words(const double *values, i64 items, i64 bits, i64 *words);

/* rank[index] = place, of sorted words, of which their indices are left. Returns how many words have the leading bits
   of a neighbour: these are at the places `tied`, in the runs `run`. */
i64 enter_ranks(i64 *words, i64 items, i64 bits, i64 *rank, i64 *tied, i64 *run);

#endif
