/* merge_numpy.Terms as arguments of a call. */
#ifndef MP_TERMS_BIND_H
#define MP_TERMS_BIND_H

#include "bind.h"
#include "merge.h"

/* weight, scale, low, high, key, keep, exact weights; random, elect, normalize, spare; divisor, factor, base_scale */
#define TERMS_PATTERN "r4 r4 r4 r4 r8 r8 r8 i i i i d d d"
#define TERMS_ARRAYS 7

/* The terms of `count` deltas, whose arrays begin at array `first` of the call and whose flags at integer `flag`.
   False: a Python error is set. */
bool take_terms(const Call *call, int first, int flag, i64 count, Terms *out);

#endif
