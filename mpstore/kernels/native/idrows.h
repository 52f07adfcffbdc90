/* Rows of many ids in a sorted table (idrows_numpy.py says what is computed). Ids have 32 bytes: a big-endian number,
   the prefix, and 24 more, the suffix. */
#ifndef MP_IDROWS_H
#define MP_IDROWS_H

#include "native.h"

/* Rows sorted by prefix. `starts` (1 << bits) + 1: the first row whose leading bits are at least so much. */
typedef struct {
    const u64 *prefix;
    const u8 *suffix;
    i64 rows, bits;
    u32 *starts;
} Table;

void fill_starts(const Table *table);
void find_rows(const Table *table, const u8 *ids, i64 count, i64 *found);

/* `find_rows` without `starts`, for few. */
void find_few_rows(const Table *table, const u8 *ids, i64 count, i64 *found);

/* Whether some rows lean on a base other than their own: rows of `base_row`, whose numbers are of `bases`. */
void lean_elsewhere(const u32 *base_row, const u8 *bases, i64 base_count, const i64 *rows, const u8 *own, i64 count,
                    u8 *out);

#endif
