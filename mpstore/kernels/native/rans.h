/* rans.c: interleaved rANS of symbols and of distances (codec_rans_numpy, codec_batch). */
#ifndef MP_RANS_H
#define MP_RANS_H

#include "native.h"

#endif
