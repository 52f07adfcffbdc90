/* Worths of units in the order of reading, block by block: a block's candidates are a few cache lines. */
#include "omission.h"

#include <math.h>

#define LANES 16

/* The worths of a piece's blocks, step by step, to their units. */
static void add_up(const Reading *r, i64 first, i64 wide, const double *worth, double *gains, i64 units) {
    for (i64 step = 0; step < r->experts; step++)
        for (i64 b = 0; b < wide; b++) {
            i64 unit = r->steps[(first + b) * r->experts + step] >> r->row_bits;
            if (unit >= 0 && unit < units) gains[unit] += worth[b * r->experts + step];
        }
}

static i64 row_of(const Reading *r, i64 step) {
    return least(step & (((i64)1 << r->row_bits) - 1), r->experts - 1);
}

/* The certificate's squared error of a block of which `left` is omitted; `own`: of the base's side. */
static double squared_error(double left, double fixed, double rounding, double total, bool touched) {
    double own = total - left > 0.0 ? total - left : 0.0;
    own = touched ? (rounding < own ? rounding : own) : 0.0;
    double error = left > 0.0 ? left + fixed + own : 0.0;
    return error * error;
}

void certified_drops(const Reading *r, const double *fixed, const double *rounding, const double *total,
                     double *gains, i64 units, double *scratch) {
    for (i64 first = 0; first < r->count; first += r->piece) {
        i64 wide = least(r->piece, r->count - first);
        for (i64 b = 0; b < wide; b++) {
            i64 block = first + b;
            const i64 *steps = r->steps + block * r->experts;
            double *drops = scratch + b * r->experts, left = 0.0;
            double after = 0.0; /* squared error once this step is read: nothing is left after the last */
            for (i64 step = r->experts - 1; step >= 0; step--) {
                left += r->error[row_of(r, steps[step]) * r->count + block];
                bool touched = step > 0 && steps[step - 1] >= 0;
                double before = squared_error(left, fixed[block], rounding[block], total[block], touched);
                drops[step] = before - after;
                after = before;
            }
        }
        add_up(r, first, wide, scratch, gains, units);
    }
}

/* In two sums, as numpy's einsum has it: of even places and of odd ones, of eight places the last two first. */
typedef double Pair __attribute__((vector_size(16), aligned(8), may_alias));

static double product(const double *a, const double *b, i64 items) {
    Pair sums = {0.0, 0.0};
    i64 at = 0;
    for (; at + 8 <= items; at += 8) {
        const Pair *one = (const Pair *)(a + at), *other = (const Pair *)(b + at);
        Pair last = one[3] * other[3], third = one[2] * other[2];
        Pair second = one[1] * other[1], first = one[0] * other[0];
        sums = sums + last + third + second + first;
    }
    for (; at + 2 <= items; at += 2) sums += *(const Pair *)(a + at) * *(const Pair *)(b + at);
    if (at < items) sums[0] += a[at] * b[at];
    return sums[0] + sums[1];
}

void expected_rises(const Reading *r, const double *cosines, const i32 *tensor, double *gains, i64 units,
                    double *scratch) {
    i64 square = r->experts * r->experts;
    double *omitted = scratch + r->piece * r->experts;
    for (i64 first = 0; first < r->count; first += r->piece) {
        i64 wide = least(r->piece, r->count - first);
        for (i64 b = 0; b < wide; b++) {
            i64 block = first + b;
            const i64 *steps = r->steps + block * r->experts;
            const double *own = cosines + tensor[block] * square;
            memset(omitted, 0, (size_t)r->experts * sizeof *omitted);
            for (i64 step = r->experts - 1; step >= 0 && steps[step] >= 0; step--) {
                i64 row = row_of(r, steps[step]);
                double size = r->error[row * r->count + block];
                double beside = size * product(own + row * r->experts, omitted, r->experts);
                omitted[row] += size;
                scratch[b * r->experts + step] = size * size + 2.0 * beside;
            }
        }
        add_up(r, first, wide, scratch, gains, units);
    }
}

void angled_squares(const double *sizes, const double *cosines, const i32 *tensor, i64 experts, i64 count,
                    double *squares) {
    for (i64 first = 0; first < count; first += LANES) {
        i64 wide = least(LANES, count - first);
        double total[LANES] = {0};
        bool alone = wide == LANES; /* of one tensor: its cosines are the same in every lane */
        for (i64 l = 1; l < wide; l++) alone &= tensor[first + l] == tensor[first];
        for (i64 i = 0; i < experts; i++) {
            const double *own = sizes + i * count + first;
            double beside[LANES] = {0};
            for (i64 j = 0; j < experts; j++) {
                const double *other = sizes + j * count + first;
                double cosine = cosines[(tensor[first] * experts + i) * experts + j];
                if (alone)
                    for (i64 l = 0; l < LANES; l++) beside[l] += cosine * other[l];
                else
                    for (i64 l = 0; l < wide; l++)
                        beside[l] += cosines[(tensor[first + l] * experts + i) * experts + j] * other[l];
            }
            for (i64 l = 0; l < wide; l++) total[l] += own[l] * beside[l];
        }
        memcpy(squares + first, total, (size_t)wide * sizeof *total);
    }
}

void unit_costs(const i64 *unit, const i64 *bytes, i64 items, i64 *cost, i64 units) {
    for (i64 at = 0; at < items; at++)
        if (unit[at] >= 0 && unit[at] < units) cost[unit[at]] += bytes[at];
}
