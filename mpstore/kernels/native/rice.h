/* rice.c: distances to a base in Rice codes, plane by plane (rice_numpy). */
#ifndef MP_RICE_H
#define MP_RICE_H

#include "native.h"

#endif
