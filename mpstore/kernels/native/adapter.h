/* adapter.c: rows of a low-rank product (adapter_numpy). */
#ifndef MP_ADAPTER_H
#define MP_ADAPTER_H

#include "native.h"

#endif
