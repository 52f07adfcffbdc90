/* planes.c: byte planes of words, and whether blocks are the same. */
#ifndef MP_PLANES_H
#define MP_PLANES_H

#include "native.h"

#endif
