/* A run of a low-rank product's elements, each summed over the rank in order: a piece of the columns at a time,
   whose totals stay in the first-level cache, of several rows where the run has them, so that a term is widened
   once for all of them.

   Products of two float32 are exact in float64: a fused multiply-add rounds what the reference rounds. */
#include "adapter.h"

#define PIECE 256
#define GROUP 4 /* rows at a time, and terms at a time: totals are loaded and stored once for four */

#if defined(__FMA__)
#define PLUS_PRODUCT(x, y, sum) __builtin_fma(x, y, sum)
#else
#define PLUS_PRODUCT(x, y, sum) ((sum) + (x) * (y))
#endif

typedef struct {
    const float *left, *right;
    i64 rank, columns;
} Product;

static void four_terms(const Product *product, i64 row, i64 column, i64 k, i64 width, double *restrict total) {
    const float *restrict factors = product->left + row * product->rank + k;
    const float *restrict first = product->right + k * product->columns + column;
    const float *restrict second = first + product->columns, *restrict third = second + product->columns;
    const float *restrict last = third + product->columns;
    double a = factors[0], b = factors[1], c = factors[2], d = factors[3];
    for (i64 j = 0; j < width; j++) {
        double sum = PLUS_PRODUCT(a, (double)first[j], total[j]);
        sum = PLUS_PRODUCT(b, (double)second[j], sum);
        sum = PLUS_PRODUCT(c, (double)third[j], sum);
        total[j] = PLUS_PRODUCT(d, (double)last[j], sum);
    }
}

/* The same of four rows. */
static void four_terms_of_four(const Product *product, i64 row, i64 column, i64 k, i64 width,
                               double (*restrict total)[PIECE]) {
    double f[GROUP][GROUP];
    for (i64 r = 0; r < GROUP; r++)
        for (i64 i = 0; i < GROUP; i++) f[r][i] = product->left[(row + r) * product->rank + k + i];
    const float *restrict first = product->right + k * product->columns + column;
    const float *restrict second = first + product->columns, *restrict third = second + product->columns;
    const float *restrict last = third + product->columns;
    for (i64 j = 0; j < width; j++) {
        double a = first[j], b = second[j], c = third[j], d = last[j];
        for (i64 r = 0; r < GROUP; r++) {
            double sum = PLUS_PRODUCT(f[r][1], b, PLUS_PRODUCT(f[r][0], a, total[r][j]));
            total[r][j] = PLUS_PRODUCT(f[r][3], d, PLUS_PRODUCT(f[r][2], c, sum));
        }
    }
}

static void one_term(const Product *product, i64 row, i64 column, i64 k, i64 width, double *restrict total) {
    const float *restrict terms = product->right + k * product->columns + column;
    double factor = product->left[row * product->rank + k];
    for (i64 j = 0; j < width; j++) total[j] = PLUS_PRODUCT(factor, (double)terms[j], total[j]);
}

/* `rows` rows (1 or GROUP) of at most PIECE columns; returns how many results are not finite. */
static i64 fill(const Product *product, double scale, i64 row, i64 rows, i64 column, i64 width,
                float *restrict out, i64 stride) {
    double total[GROUP][PIECE];
    i64 bad = 0, k = 0;
    memset(total, 0, sizeof total);
    for (; k + GROUP <= product->rank; k += GROUP)
        if (rows == GROUP)
            four_terms_of_four(product, row, column, k, width, total);
        else
            four_terms(product, row, column, k, width, total[0]);
    for (; k < product->rank; k++)
        for (i64 r = 0; r < rows; r++) one_term(product, row + r, column, k, width, total[r]);
    for (i64 r = 0; r < rows; r++) {
        float *restrict own = out + r * stride;
        for (i64 j = 0; j < width; j++) own[j] = (float)(total[r][j] * scale);
        for (i64 j = 0; j < width; j++) bad += (bits_of(own[j]) & MAGNITUDE) >= INFINITE;
    }
    return bad;
}

i64 product_run(const float *restrict left, const float *restrict right, i64 rank, i64 columns, double scale,
                i64 start, i64 size, float *restrict out) {
    Product product = {left, right, rank, columns};
    i64 bad = 0;
    for (i64 at = 0, taken; at < size; at += taken) {
        i64 row = (start + at) / columns, first = (start + at) % columns;
        i64 rows = first == 0 && size - at >= GROUP * columns ? GROUP : 1;
        i64 wide = rows == GROUP ? columns : least(columns - first, size - at);
        for (i64 column = 0; column < wide; column += PIECE)
            bad += fill(&product, scale, row, rows, first + column, least(PIECE, wide - column),
                        out + at + column, columns);
        taken = rows * wide;
    }
    return bad;
}
