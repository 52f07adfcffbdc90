/* merge.c: deltas in float32 to a merged block (merge_numpy), and counter-based draws (random_numpy). */
#ifndef MP_MERGE_H
#define MP_MERGE_H

#include "native.h"

#endif
