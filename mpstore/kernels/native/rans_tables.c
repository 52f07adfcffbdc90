/* From counts to 12-bit frequencies that cost a few bits a symbol, and their bytes (rans_tables.py has the words). */
#include "rans.h"

enum { FIRST_PREDICTION = 36, ESCAPE = 12, SCALE = 4096 };

void rans_choose_codes(const i64 *counts, i64 contexts, i64 symbols, const RansScales *scales, u8 *codes) {
    for (i64 context = 0; context < contexts; context++, counts += symbols, codes += symbols) {
        i64 total = 0;
        for (i64 symbol = 0; symbol < symbols; symbol++) total += counts[symbol];
        for (i64 symbol = 0; symbol < symbols; symbol++) {
            i64 below = 0;
            codes[symbol] = 0;
            if (counts[symbol] <= 0) continue;
            i64 share = (i64)(((u64)counts[symbol] << 22) / (u64)total);
            for (i64 edge = 0; edge < scales->edge_count; edge++) below += scales->edges[edge] <= share;
            codes[symbol] = (u8)(1 + below);
        }
        if (total == 0) codes[0] = 1;
    }
}

static i64 weight_of(u8 code) { return code == 0 ? 0 : (i64)(4 + (code - 1) % 4) << ((code - 1) / 4); }

/* Each weight scaled to a sum of SCALE, rounded down but never below 1; the first largest gives and takes. */
static void scale_row(const u8 *codes, i64 symbols, i64 total, u32 *out) {
    i64 missing = SCALE;
    for (i64 symbol = 0; symbol < symbols; symbol++) {
        if (codes[symbol] == 0) continue;
        out[symbol] = (u32)most(1, weight_of(codes[symbol]) * SCALE / total);
        missing -= out[symbol];
    }
    while (missing != 0) {
        i64 largest = 0;
        for (i64 symbol = 1; symbol < symbols; symbol++)
            if (out[symbol] > out[largest]) largest = symbol;
        i64 change = most(missing, 1 - (i64)out[largest]);
        out[largest] = (u32)(out[largest] + change);
        missing -= change;
    }
}

void rans_frequencies(const u8 *codes, i64 contexts, i64 symbols, u32 *out) {
    for (i64 context = 0; context < contexts; context++, codes += symbols, out += symbols) {
        i64 total = 0, present = 0, lone = 0;
        for (i64 symbol = 0; symbol < symbols; symbol++) {
            out[symbol] = 0;
            total += weight_of(codes[symbol]);
            present += codes[symbol] > 0;
            lone = codes[symbol] > 0 ? symbol : lone;
        }
        if (present == 1) {
            out[lone] = SCALE - 1;
            out[lone ^ 1] = 1;
        } else if (present > 1) {
            scale_row(codes, symbols, total, out);
        }
    }
}

static i64 put_bits(u8 *out, i64 at, u32 value, i64 count) {
    for (i64 i = 0; i < count; i++, at++) out[at >> 3] |= (u8)(((value >> i) & 1) << (at & 7));
    return at;
}

static u32 fold(i64 step) { return (u32)(step >= 0 ? 2 * step : -2 * step - 1); }

/* The Rice parameter that takes fewest bits for these codes, the first of such. */
static i64 choose_rice(const u8 *codes, i64 first, i64 last) {
    i64 best = 0, cheapest = INT64_MAX;
    for (i64 rice = 0; rice < 4; rice++) {
        i64 bits = 0, before = FIRST_PREDICTION;
        for (i64 symbol = first; symbol <= last; before = codes[symbol], symbol++) {
            i64 ones = fold(codes[symbol] - before) >> rice;
            bits += ones < ESCAPE ? ones + 1 + rice : 18;
        }
        if (bits < cheapest) {
            cheapest = bits;
            best = rice;
        }
    }
    return best;
}

i64 rans_write_tables(const u8 *codes, i64 contexts, i64 symbols, u8 *out) {
    i64 at = 0;
    for (i64 context = 0; context < contexts; context++, codes += symbols) {
        i64 first = 0, last = symbols - 1, before = FIRST_PREDICTION;
        while (codes[first] == 0) first++;
        while (codes[last] == 0) last--;
        i64 rice = choose_rice(codes, first, last);
        at = put_bits(out, at, (u32)(first | (last - first) << 8 | rice << 16), 18);
        for (i64 symbol = first; symbol <= last; before = codes[symbol], symbol++) {
            u32 value = fold(codes[symbol] - before), ones = value >> rice, low = value & ((1u << rice) - 1);
            if (ones < ESCAPE)
                at = put_bits(out, at, ((1u << ones) - 1) | low << (ones + 1), ones + 1 + rice);
            else
                at = put_bits(out, at, ((1u << ESCAPE) - 1) | (u32)codes[symbol] << ESCAPE, 18);
        }
    }
    return at;
}

typedef struct {
    const u8 *bytes;
    i64 at, limit; /* in bits */
} Bits;

/* So many bits, -1 where there are fewer. */
static i64 get_bits(Bits *bits, i64 count) {
    i64 value = 0;
    if (bits->at + count > bits->limit) return -1;
    for (i64 i = 0; i < count; i++, bits->at++) value |= (i64)(bits->bytes[bits->at >> 3] >> (bits->at & 7) & 1) << i;
    return value;
}

/* One code, given the one before it; -1: damaged. */
static i64 get_code(Bits *bits, i64 rice, i64 before) {
    i64 ones = 0, bit = 1;
    while (ones < ESCAPE && (bit = get_bits(bits, 1)) == 1) ones++;
    i64 low = bit < 0 ? -1 : get_bits(bits, ones == ESCAPE ? 6 : rice);
    if (low < 0) return -1;
    i64 value = ones << rice | low;
    i64 code = ones == ESCAPE ? low : before + (value & 1 ? -((value + 1) >> 1) : value >> 1);
    return code > RANS_LAST_CODE ? -1 : code;
}

i64 rans_read_tables(const u8 *bytes, i64 size, i64 contexts, i64 symbols, u8 *codes) {
    Bits bits = {bytes, 0, size * 8};
    for (i64 context = 0; context < contexts; context++, codes += symbols) {
        i64 first = get_bits(&bits, 8), count = get_bits(&bits, 8) + 1, rice = get_bits(&bits, 2);
        i64 code = FIRST_PREDICTION, present = 0;
        if (rice < 0 || first + count > symbols) return -1;
        for (i64 symbol = first; symbol < first + count; symbol++) {
            code = get_code(&bits, rice, code);
            if (code < 0) return -1;
            codes[symbol] = (u8)code;
            present += code > 0;
        }
        if (present == 0) return -1;
    }
    return bits.at;
}
