/* merge_words.c: stored 16-bit words to merged words (merge_words_numpy). */
#ifndef MP_MERGE_WORDS_H
#define MP_MERGE_WORDS_H

#include "native.h"

#endif
