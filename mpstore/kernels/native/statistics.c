/* Blocks to rows of statistics: chunks summed up, sketches rounded, the histogram of all of them. */
#include "statistics.h"

/* To the nearest integer, ties to even, of what is far below 2^51. */
static double rounded(double value) {
    const double shift = 6755399441055744.0; /* 1.5 * 2^52 */
    return (value + shift) - shift;
}

/* The sketch in multiples of `scale`, -127 to 127; all 0 where it is not finite. */
static float quantized(const double *sketch, i8 *codes) {
    double largest = 0;
    bool finite = true;
    memset(codes, 0, LANES);
    for (i64 lane = 0; lane < LANES; lane++) {
        double size = sketch[lane] < 0 ? -sketch[lane] : sketch[lane];
        finite = finite && size == size;
        largest = size > largest ? size : largest;
    }
    float scale = (float)(largest / 127);
    if (!finite || bits_of(scale) >= INFINITE || scale == 0) return 0;
    for (i64 lane = 0; lane < LANES; lane++) {
        double code = rounded(sketch[lane] / (double)scale);
        codes[lane] = (i8)(code < -127 ? -127 : code > 127 ? 127 : code);
    }
    return scale;
}

static double in_order(const double *lanes) {
    double total = 0;
    for (i64 lane = 0; lane < LANES; lane++) total += lanes[lane];
    return total;
}

/* Bins in use and their counts; the tables are zero again. */
static i64 drain(Tally *tally, u16 *restrict bins, u32 *restrict counts, u32 *restrict over) {
    i64 used = 0;
    u32 *tables = tally->tables;
    tables[0] += tally->zeros;
    for (u32 bin = 0; bin <= tally->highest; bin = bin < tally->lowest ? tally->lowest : bin + 1) {
        u32 total = tables[bin] + tables[TABLE + bin] + tables[2 * TABLE + bin] + tables[3 * TABLE + bin];
        if (total == 0) continue;
        bins[used] = (u16)bin;
        counts[used] = total;
        over[used++] = tally->narrow ? tables[TABLES * TABLE + bin] : total;
        tables[TABLES * TABLE + bin] = tables[bin] = tables[TABLE + bin] = tables[2 * TABLE + bin] = tables[3 * TABLE + bin] = 0;
    }
    return used;
}

/* The two bins other than 0 that most deltas are in, if that is an eighth of all: fewer are not worth it. */
static void choose_hot(const u16 *bins, const u32 *counts, i64 used, u16 *hot) {
    u64 first = 0, second = 0, all = 0;
    hot[0] = hot[1] = BINS;
    for (i64 k = 0; k < used; k++) {
        all += counts[k];
        if (bins[k] == 0 || counts[k] <= second) continue;
        bool more = counts[k] > first;
        second = more ? first : counts[k];
        hot[1] = more ? hot[0] : bins[k];
        first = more ? counts[k] : first;
        hot[0] = more ? bins[k] : hot[0];
    }
    if (8 * (first + second) < all) hot[0] = hot[1] = BINS;
}

i64 observe_blocks(const Block *blocks, i64 count, const float *plain_signs, const u64 *flips, u32 *tables,
                   u16 *hot, const Rows *rows, u16 *bins, u32 *counts, u32 *over) {
    Tally tally = {.tables = tables, .hot = hot, .zeros = 0, .lowest = BINS, .narrow = blocks[0].narrow};
    Signs signs = {.plain = plain_signs};
#if MP_WIDE
    prepare_chunks(&signs, blocks[0].narrow);
#endif
    for (i64 k = 0; k < count; k++) {
        Sums sums;
        memset(&sums, 0, sizeof sums);
        for (i64 start = 0; start < blocks[k].size; start += CHUNK)
            observe_chunk(&blocks[k], start, least(CHUNK, blocks[k].size - start), &signs, flips[start / CHUNK],
                          &sums, &tally);
        rows->totals[3 * k] = in_order(sums.squares);
        rows->totals[3 * k + 1] = in_order(sums.products);
        rows->totals[3 * k + 2] = in_order(sums.base_squares);
        rows->scales[k] = quantized(sums.sketch, rows->codes + LANES * k);
        rows->odd[k] = sums.nonfinite;
        rows->tops[k] = sums.top;
    }
    i64 used = drain(&tally, bins, counts, over);
    choose_hot(bins, counts, used, hot);
    return used;
}
