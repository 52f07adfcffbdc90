/* prefix.c: bytes in prefix codes, plane by plane (prefix_numpy). */
#ifndef MP_PREFIX_H
#define MP_PREFIX_H

#include "native.h"

#endif
