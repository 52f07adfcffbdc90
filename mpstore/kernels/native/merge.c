/* Deltas to a merged block: the compiled side of merge_numpy, piece by piece.

   The sums are over terms rounded to a grid per element, on which float64 adds exactly. Where the largest and the
   smallest term of a whole piece are near enough to each other, every term lies on its grid already, and plain sums
   are the same bits. */
#include "merge.h"
#include "draws.h"

#define A_NAN 0x7FC00000u /* the one that a merge makes, whatever NaN it came from */

void begin_parts(Parts *parts) {
    parts->used = 0;
    parts->top = 0;
    parts->bottom = UINT32_MAX;
}

static inline u32 larger(u32 a, u32 b) { return a > b ? a : b; }
static inline u32 smaller(u32 a, u32 b) { return a < b ? a : b; }

static inline float kept_of(bool dropped, float delta) { return float_of(choose(dropped, 0, bits_of(delta))); }

void weigh(Parts *restrict parts, const Terms *terms, i64 e, const float *restrict delta, i64 width, u64 first) {
    float *restrict row = parts->rows[parts->used];
    const float low = terms->low[e], high = terms->high[e], scale = terms->scale[e], weight = terms->weight[e];
    u32 top = parts->top, bottom = parts->bottom;
    if (terms->random) {
        u32 draws[PIECE + 2];
        const u32 *drawn = draws + (first & 1);
        u64 keep = terms->keep[e], state = terms->key[e] + (first / 2 + 1) * GOLDEN;
        for (i64 j = 0; j <= width / 2; j++) {
            u64 two = two_draws(state + (u64)j * GOLDEN);
            draws[2 * j] = (u32)two;
            draws[2 * j + 1] = (u32)(two >> 32);
        }
        for (i64 j = 0; j < width; j++) row[j] = kept_of(drawn[j] >= keep, delta[j]) * scale * weight;
    } else {
        for (i64 j = 0; j < width; j++) {
            float magnitude = float_of(bits_of(delta[j]) & MAGNITUDE);
            row[j] = kept_of((magnitude < low) | (magnitude > high), delta[j]) * scale * weight;
        }
    }
    for (i64 j = 0; j < width; j++) {
        u32 pattern = bits_of(row[j]) & MAGNITUDE;
        top = larger(top, pattern);
        bottom = smaller(bottom, pattern - 1); /* 0 becomes the largest */
    }
    parts->top = top;
    parts->bottom = bottom;
    parts->delta[parts->used++] = e;
}

/* Whether every term is a multiple of its element's grid whatever the element, and all are finite. */
static bool on_grid(const Parts *parts, i64 spare) {
    i64 highest = parts->top >> 23, lowest = ((i64)parts->bottom + 1) >> 23;
    return highest < 255 && highest - lowest <= 29 - spare;
}

static void find_grid(const Parts *restrict parts, i64 width, i64 spare, double *restrict grid) {
    u32 largest[PIECE] = {0};
    for (i64 r = 0; r < parts->used; r++)
        for (i64 j = 0; j < width; j++) largest[j] = larger(largest[j], bits_of(parts->rows[r][j]) & MAGNITUDE);
    for (i64 j = 0; j < width; j++) {
        u64 exponent = largest[j] >> 23;
        u64 bits = (exponent + (u64)(1023 - 127 + spare)) << 52 | (u64)1 << 51;
        grid[j] = exponent == 255 ? 0.0 : double_of(bits);
    }
}

static void add_up(const Parts *restrict parts, i64 width, const double *restrict grid, double *restrict total) {
    for (i64 j = 0; j < width; j++) total[j] = 0.0;
    for (i64 r = 0; r < parts->used; r++) {
        const float *row = parts->rows[r];
        if (grid == NULL) {
            for (i64 j = 0; j < width; j++) total[j] += (double)row[j];
        } else {
            for (i64 j = 0; j < width; j++) total[j] += ((double)row[j] + grid[j]) - grid[j];
        }
    }
}

/* `add_up`, and the sum of what is above 0. */
static void add_split(const Parts *restrict parts, i64 width, const double *restrict grid, double *restrict total,
                      double *restrict plus) {
    for (i64 j = 0; j < width; j++) total[j] = plus[j] = 0.0;
    for (i64 r = 0; r < parts->used; r++) {
        const float *row = parts->rows[r];
        for (i64 j = 0; j < width; j++) {
            double y = grid == NULL ? (double)row[j] : ((double)row[j] + grid[j]) - grid[j];
            total[j] += y;
            plus[j] += y > 0 ? y : 0.0;
        }
    }
}

/* Divide by the weights of the deltas whose terms have the elected sign, where there are any. */
static void share_out(const Parts *restrict parts, const Terms *terms, i64 width, const float *restrict sign,
                      float *restrict merged) {
    double shares[PIECE] = {0};
    for (i64 r = 0; r < parts->used; r++) {
        const float *row = parts->rows[r];
        const double weight = terms->exact[parts->delta[r]];
        for (i64 j = 0; j < width; j++) shares[j] += row[j] * sign[j] > 0 ? weight : 0.0;
    }
    for (i64 j = 0; j < width; j++) merged[j] /= (float)(shares[j] == 0.0 ? 1.0 : shares[j]);
}

static void elect(const Parts *restrict parts, const Terms *terms, i64 width, const double *restrict grid,
                  double *restrict total, float *restrict merged) {
    double plus[PIECE];
    float sign[PIECE];
    add_split(parts, width, grid, total, plus);
    for (i64 j = 0; j < width; j++) {
        bool up = total[j] >= 0;
        merged[j] = (float)(up ? plus[j] : total[j] - plus[j]);
        sign[j] = up ? 1.0f : -1.0f;
    }
    if (terms->normalize) share_out(parts, terms, width, sign, merged);
}

void merge_parts(const Parts *restrict parts, const Terms *terms, const float *restrict base, i64 width,
                 float *restrict out) {
    double grid[PIECE], total[PIECE];
    float merged[PIECE];
    const double *rounding = on_grid(parts, terms->spare) ? NULL : grid;
    const float divisor = terms->divisor, factor = terms->factor, base_scale = terms->base_scale;
    const bool keeps = base_scale == 1.0f;
    if (rounding != NULL) find_grid(parts, width, terms->spare, grid);
    if (terms->elect) {
        elect(parts, terms, width, rounding, total, merged);
    } else {
        add_up(parts, width, rounding, total);
        for (i64 j = 0; j < width; j++) merged[j] = (float)total[j];
        if (terms->normalize)
            for (i64 j = 0; j < width; j++) merged[j] /= divisor;
    }
    for (i64 j = 0; j < width; j++) {
        float m = merged[j] * factor, value = base[j] * base_scale + m;
        u32 bits = choose(value != value, A_NAN, bits_of(value));
        out[j] = float_of(choose((m == 0) & keeps, bits_of(base[j]), bits));
    }
}

void merge_combine(const float *restrict base, const float *const *deltas, const Terms *terms, u64 start,
                   i64 count, float *restrict out) {
    Parts parts;
    for (i64 at = 0; at < count; at += PIECE) {
        i64 width = least(PIECE, count - at);
        begin_parts(&parts);
        for (i64 e = 0; e < terms->count; e++) weigh(&parts, terms, e, deltas[e] + at, width, start + (u64)at);
        merge_parts(&parts, terms, base + at, width, out + at);
    }
}
