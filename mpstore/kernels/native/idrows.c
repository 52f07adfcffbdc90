/* Ids are hashes: their leading bits say nearly where they stand, so each costs a few fetches from memory, which
   overlap with those of the ids behind it. */
#include "idrows.h"

#define ID 32
#define SUFFIX 24
#define AHEAD 16 /* ids: as many as fetches are under way */

static u64 number_of(const u8 *id) {
    u64 number;
    memcpy(&number, id, sizeof number);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    number = __builtin_bswap64(number);
#endif
    return number;
}

static u64 bucket(const Table *t, u64 prefix) { return t->bits ? prefix >> (64 - t->bits) : 0; }

void fill_starts(const Table *t) {
    u64 next = 0, buckets = (u64)1 << t->bits;
    for (i64 row = 0; row < t->rows; row++)
        for (u64 own = bucket(t, t->prefix[row]); next <= own; next++) t->starts[next] = (u32)row;
    for (; next <= buckets; next++) t->starts[next] = (u32)t->rows;
}

/* The first row of a run that is not below a prefix. */
static i64 lower_bound(const u64 *prefix, i64 first, i64 stop, u64 wanted) {
    while (first < stop) {
        i64 middle = (first + stop) / 2;
        if (prefix[middle] < wanted)
            first = middle + 1;
        else
            stop = middle;
    }
    return first;
}

/* The row of an id from the first one on that is not below its prefix, -1: there is none. */
static i64 row_of(const Table *t, i64 row, u64 wanted, const u8 *id) {
    for (; row < t->rows && t->prefix[row] == wanted; row++)
        if (memcmp(t->suffix + row * SUFFIX, id + 8, SUFFIX) == 0) return row;
    return -1;
}

void find_few_rows(const Table *t, const u8 *ids, i64 count, i64 *found) {
    for (i64 k = 0; k < count; k++) {
        const u8 *id = ids + k * ID;
        u64 wanted = number_of(id);
        found[k] = row_of(t, lower_bound(t->prefix, 0, t->rows, wanted), wanted, id);
    }
}

void find_rows(const Table *t, const u8 *ids, i64 count, i64 *found) {
    for (i64 k = 0; k < count; k++) {
        if (k + 2 * AHEAD < count) __builtin_prefetch(&t->starts[bucket(t, number_of(ids + (k + 2 * AHEAD) * ID))]);
        if (k + AHEAD < count) {
            u32 row = t->starts[bucket(t, number_of(ids + (k + AHEAD) * ID))];
            __builtin_prefetch(&t->prefix[row]);
            __builtin_prefetch(&t->suffix[(i64)row * SUFFIX]);
        }
        const u8 *id = ids + k * ID;
        u64 wanted = number_of(id), own = bucket(t, wanted);
        i64 row = lower_bound(t->prefix, least(t->starts[own], t->rows), least(t->starts[own + 1], t->rows), wanted);
        found[k] = row_of(t, row, wanted, id);
    }
}

void lean_elsewhere(const u32 *base_row, const u8 *bases, i64 base_count, const i64 *rows, const u8 *own, i64 count,
                    u8 *out) {
    for (i64 k = 0; k < count; k++) {
        if (k + 2 * AHEAD < count) __builtin_prefetch(&base_row[rows[k + 2 * AHEAD]]);
        if (k + AHEAD < count && (i64)base_row[rows[k + AHEAD]] < base_count)
            __builtin_prefetch(bases + (i64)base_row[rows[k + AHEAD]] * ID);
        i64 base = base_row[rows[k]];
        out[k] = base < base_count && memcmp(bases + base * ID, own + k * ID, ID) != 0;
    }
}
