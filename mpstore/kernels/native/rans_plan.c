/* Which contexts of a block are worth a table of their own, and how its map of changes is written. */
#include "rans.h"

enum { TABLE_COST = 18 << 16, SYMBOL_COST = 11 << 15 }; /* in 1/65536 bit, as all costs here */

static i64 log_sum(i64 count, const i64 *logs) {
    if (count <= 0) return 0;
    i64 exponent = 63 - __builtin_clzll((u64)count);
    return count * ((exponent << 16) + logs[((u64)count << 8 >> exponent) - 256]);
}

/* What coding symbols with these counts under a table of their own takes. */
static i64 cost(const i64 *counts, i64 symbols, const i64 *logs) {
    i64 total = 0, bits = TABLE_COST;
    for (i64 symbol = 0; symbol < symbols; symbol++) {
        if (counts[symbol] == 0) continue;
        total += counts[symbol];
        bits += SYMBOL_COST - log_sum(counts[symbol], logs);
    }
    return bits + log_sum(total, logs);
}

static void add_row(const u32 *row, i64 symbols, i64 *sum) {
    for (i64 symbol = 0; symbol < symbols; symbol++) sum[symbol] += row[symbol];
}

/* What the rows take: those before each one by one, and together those up to each and those from each on. */
typedef struct {
    i64 alone[RANS_MOST_ROWS + 1], up_to[RANS_MOST_ROWS], from[RANS_MOST_ROWS];
} Costs;

static void costs_of(const u32 *counts, i64 rows, i64 symbols, const i64 *logs, Costs *out) {
    i64 below[RANS_MOST_SYMBOLS] = {0}, above[RANS_MOST_SYMBOLS] = {0};
    out->alone[0] = 0;
    for (i64 row = 0; row < rows; row++) {
        i64 own[RANS_MOST_SYMBOLS] = {0};
        add_row(counts + row * symbols, symbols, own);
        out->alone[row + 1] = out->alone[row] + cost(own, symbols, logs);
        add_row(counts + row * symbols, symbols, below);
        out->up_to[row] = cost(below, symbols, logs);
        add_row(counts + (rows - 1 - row) * symbols, symbols, above);
        out->from[rows - 1 - row] = cost(above, symbols, logs);
    }
}

/* The last row of the contexts' first and the first row of their last; both 0 where one table is cheapest. */
static void choose_ends(const Costs *costs, i64 rows, i64 *low, i64 *high) {
    i64 low_cost = INT64_MAX, high_cost = INT64_MAX;
    *low = *high = 0;
    if (rows < 2) return;
    for (i64 row = 0; row < rows - 1; row++) {
        i64 this = costs->up_to[row] - costs->alone[row + 1];
        if (this >= low_cost) continue;
        low_cost = this;
        *low = row;
    }
    for (i64 row = *low + 1; row < rows; row++) {
        i64 this = costs->from[row] + costs->alone[row];
        if (this >= high_cost) continue;
        high_cost = this;
        *high = row;
    }
    if (low_cost + high_cost >= costs->up_to[rows - 1]) *low = *high = 0;
}

i64 rans_plan_contexts(const u32 *counts, i64 rows, i64 symbols, const RansScales *scales, i64 *kept, i64 *low) {
    Costs costs;
    i64 high;
    costs_of(counts, rows, symbols, scales->logs, &costs);
    choose_ends(&costs, rows, low, &high);
    i64 contexts = high - *low + 1;
    memset(kept, 0, (size_t)(contexts * symbols) * sizeof *kept);
    for (i64 row = 0; row < rows; row++)
        add_row(counts + row * symbols, symbols, kept + (least(most(row, *low), high) - *low) * symbols);
    return contexts;
}

static i64 common_divisor(i64 a, i64 b) {
    while (b != 0) {
        i64 rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

i64 rans_change_run(const u8 *coded, i64 chunks) {
    i64 run = 0;
    for (i64 chunk = 1; chunk < chunks; chunk++)
        if (coded[chunk] != coded[chunk - 1]) run = common_divisor(chunk, run);
    return run > 0 || chunks == 0 || coded[0] ? run : chunks;
}
