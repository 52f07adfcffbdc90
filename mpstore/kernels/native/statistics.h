/* statistics.c, statistics_chunk.c, statistics_avx2.c and statistics_avx512.c: one block's delta statistics (statistics_numpy). */
#ifndef MP_STATISTICS_H
#define MP_STATISTICS_H

#include "native.h"

#define LANES 32
#define TILE (4 * LANES)
#define CHUNK 2048
#define BINS 32768
#define TABLE (BINS + 16) /* bin BINS is for what is not to be counted; no two tables lie 4096 bytes apart */
#define TABLES 4
#define ALL_TABLES (TABLES + 1) /* the last is of those above the edge of their bin */
#define HOT 2

/* How often each bin was seen, in several tables that are added up at the end: equal neighbours would
   otherwise wait for each other's store. Between calls the tables are zero. `hot` are bins that many deltas may
   be in, which is worth their own counters; BINS where there is none. `narrow`: the words are bfloat16, and it is
   counted how many deltas have bits below those that name the bin: few. */
typedef struct {
    u32 *tables;
    u16 *hot;
    u32 zeros;           /* to be added to bin 0 */
    u32 lowest, highest; /* the bins in use other than 0 */
    bool narrow;
} Tally;

#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__BMI2__)
#define MP_WIDE 512 /* bits of a vector */
#elif defined(__AVX2__) && defined(__FMA__)
#define MP_WIDE 256
#else
#define MP_WIDE 0
#endif

/* The sketch's signs in a chunk, 1 or -1, and what else whole chunks are gone through with: the signs in the order of
   statistics_avx512.c; the shuffles that bring words chosen by eight bits to the front. */
typedef struct {
#if MP_WIDE == 512
    _Alignas(64) float arranged[CHUNK];
#elif MP_WIDE == 256
    _Alignas(16) u8 together[256][16];
#endif
    const float *plain;
} Signs;

/* What is summed up of a block, by lane. */
typedef struct {
    double squares[LANES], products[LANES], base_squares[LANES], sketch[LANES];
    u32 top; /* the largest finite magnitude */
    i64 nonfinite;
} Sums;

/* Where one block's words lie: bfloat16 patterns if `narrow`, else float32. */
typedef struct {
    const void *base, *expert;
    i64 size;
    bool narrow, difference;
} Block;

/* What a call says of each block, a row each: sums of delta^2, base * delta and base^2, the sketch and its
   scale, non-finite elements, the largest finite magnitude. */
typedef struct {
    double *totals;
    i8 *codes;
    float *scales;
    i64 *odd;
    u32 *tops;
} Rows;

/* Add a chunk: elements `start` to `start + count` (at most CHUNK) of a block. Bit l of `flips` turns the
   sketch's lane l. */
void observe_chunk(const Block *block, i64 start, i64 count, const Signs *signs, u64 flips, Sums *sums,
                   Tally *tally);

#if MP_WIDE
/* observe_chunk of a whole chunk. False: a delta is not finite, and only bins were counted. */
bool observe_whole_chunk(const Block *block, i64 start, const Signs *signs, u64 flips, Sums *sums,
                         Tally *tally);
void prepare_chunks(Signs *signs, bool narrow);
#endif

/* Blocks of one kind of words. `flips` has a word for each chunk of the largest, `bins`, `counts` and `over` have
   room for BINS; returns how many bins are in use of all blocks together. `over` says how many of a bin may lie above
   its lower edge: of bfloat16 those that do, of float32 all. `hot` has HOT bins, and gets those for a next call like
   this one: they change how long it takes, and nothing else. */
i64 observe_blocks(const Block *blocks, i64 count, const float *plain_signs, const u64 *flips, u32 *tables,
                   u16 *hot, const Rows *rows, u16 *bins, u32 *counts, u32 *over);

#endif
