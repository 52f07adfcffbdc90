/* statistics.c: one pass over a block's deltas (statistics_numpy). */
#ifndef MP_STATISTICS_H
#define MP_STATISTICS_H

#include "native.h"

#endif
