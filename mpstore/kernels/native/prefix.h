/* prefix.c: floats as exponents in prefix codes, and the bits below as they are (prefix_numpy).

   Words are 1, 2, 4 or 8 bytes, given as bytes. A block taken apart is the symbols' segment, then `rest_bits` / 8
   planes of a byte each word, then `rest_bits` % 8 planes of a bit each word. */
#ifndef MP_PREFIX_H
#define MP_PREFIX_H

#include "native.h"

typedef struct {
    int word_bytes, rest_bits;
} PrefixShape;

/* Bytes of scratch for a block of so many words, and the most that one taken apart can have. */
i64 prefix_room(i64 words);
i64 prefix_most(const PrefixShape *shape, i64 words);

/* Into `out`; bytes of the symbols' segment. `promising`: bit p says that plane p looks as if it could be packed. */
i64 prefix_split(const PrefixShape *shape, const u8 *words, i64 count, u8 *room, u8 *out, u64 *promising);

/* Fill `out`; false: the segment is not one of prefix_split's. `planes` has a pointer for each plane of bytes. */
bool prefix_join(const PrefixShape *shape, const u8 *segment, i64 size, u8 *const *planes, const u8 *odd, i64 count,
                 u8 *room, u8 *out);

#endif
