/* Blocks of byte planes, as rans-planes in docs/codecs.md has them; zstd is not for here. */
#include "planes.h"
#include "rans_room.h"

enum { RAW_PLANE = 0, RANS_PLANE = 2, FINE_PLANE = 3, SIX_BITS = 4 }; /* modes */

/* Lanes, a table of 256 symbols, and the words of so many. */
static bool decode_stream(const u8 *data, i64 size, i64 count, Scratch *scratch, u8 *out) {
    i64 lanes = data[0], used = rans_read_stream(data + 1, size - 1, 1, 256, lanes, scratch);
    return used >= 0 && rans_decode_symbols(scratch->words, used, scratch->room->slots, lanes, count, out);
}

static bool decode_plane(const u8 *data, i64 size, i64 count, Scratch *scratch, u8 *out) {
    if (size == count + 1 && data[0] == RAW_PLANE) {
        memcpy(out, data + 1, (size_t)count);
        return true;
    }
    if (size < 2 || size > count || data[0] != RANS_PLANE) return false;
    return decode_stream(data + 1, size - 1, count, scratch, out);
}

/* The two last planes together: a symbol is the rank of the top byte and two bits of the byte below, whose other six
   bits are in `rests`. */
static bool decode_fine(const u8 *data, i64 size, const u8 *rests, i64 rests_size, i64 count, Scratch *scratch,
                        u8 *below) {
    u8 values[64] = {0};
    i64 packed_size = (count + 1) / 2 + (count + 3) / 4, present = 0;
    if (size < 34 || size > count || rests_size != 1 + packed_size || rests[0] != SIX_BITS) return false;
    for (i64 value = 0; value < 256 && present < 64; value++)
        if (data[1 + value / 8] >> value % 8 & 1) values[present++] = (u8)value;
    if (!decode_stream(data + 33, size - 33, count, scratch, scratch->tokens)) return false;
    join_fine(scratch->tokens, count, values, rests + 1, below + count, below);
    return true;
}

bool rans_decode_planes(void *const *planes, const i64 *sizes, i64 word_bytes, bool rotated, i64 count, void *memory,
                        void *out) {
    Scratch scratch = rans_lay_out(memory, count, word_bytes);
    i64 last = word_bytes - 1;
    if (last > 0 && sizes[last] > 0 && *(u8 *)planes[last] == FINE_PLANE) {
        u8 *below = scratch.distances + (last - 1) * count;
        if (!decode_fine(planes[last], sizes[last], planes[last - 1], sizes[last - 1], count, &scratch, below))
            return false;
        last -= 2;
    }
    for (i64 plane = 0; plane <= last; plane++) {
        u8 *target = scratch.distances + plane * count;
        if (!decode_plane(planes[plane], sizes[plane], count, &scratch, target)) return false;
    }
    join_planes(scratch.distances, word_bytes, count, rotated, out);
    return true;
}
