/* Streams of bits behind each other in one segment, and their LEB128 lengths: the bytes of bits_numpy.py.

   A source never reads outside the segment: what is missing reads as zeros, and `ended` tells afterwards whether a
   stream was exactly as long as was taken. A sink may write eight bytes past what it holds. */
#ifndef MP_BITSTREAM_H
#define MP_BITSTREAM_H

#include "native.h"

#define AT_ONCE 56           /* bits that one look into a stream is sure to give */
#define MOST_RUN 16          /* words of bits that a run takes from a stream */
#define RUN_BYTES (8 * MOST_RUN + 16)
#define LOOK_BYTES 9         /* that a word of bits can lie in */

typedef struct {
    i64 start, bytes, bit; /* where in the segment, how long, the next bit */
} Source;

/* A short run of a stream, with all that it can take safely in reach. */
typedef struct {
    const u8 *from;
    i64 bit; /* the next one, from there */
    u8 near[RUN_BYTES];
} Run;

static inline void begin_run(Run *run, const u8 *segment, i64 size, const Source *source) {
    i64 at = source->start + (source->bit >> 3);
    run->from = segment + at;
    run->bit = source->bit & 7;
    if (UNLIKELY(size - at < RUN_BYTES)) {
        memset(run->near, 0, RUN_BYTES);
        if (size > at) memcpy(run->near, segment + at, (size_t)(size - at));
        run->from = run->near;
    }
}

/* It has come to bit `bit`. */
static inline void end_run(const Run *run, i64 bit, Source *source) { source->bit += bit - run->bit; }

/* A word of bits, from bit `bit` on. */
static inline u64 bits_at(const u8 *from, i64 bit) {
    const u8 *at = from + (bit >> 3);
    int shift = (int)(bit & 7);
    u64 low;
    memcpy(&low, at, 8);
    return low >> shift | (u64)at[8] << 1 << (63 - shift);
}

/* The same, but only AT_ONCE of its bits. */
static inline u64 few_bits_at(const u8 *from, i64 bit) {
    u64 low;
    memcpy(&low, from + (bit >> 3), 8);
    return low >> (bit & 7);
}

/* The next `count` bits of a stream, at most 64; above them come others. */
static inline u64 pull(const u8 *segment, i64 size, Source *source, i64 count) {
    i64 at = source->start + (source->bit >> 3), bit = source->bit & 7;
    source->bit += count;
    if (UNLIKELY(size - at < LOOK_BYTES)) {
        u8 near[LOOK_BYTES] = {0};
        if (size > at) memcpy(near, segment + at, (size_t)(size - at));
        return bits_at(near, bit);
    }
    return bits_at(segment + at, bit);
}

static inline bool ended(const Source *source) { return (source->bit + 7) / 8 == source->bytes; }

typedef struct {
    u8 *start, *at;
    u64 held;
    int count; /* bits in `held` */
} Sink;

static inline void open_sink(Sink *sink, u8 *start) { *sink = (Sink){start, start, 0, 0}; }

/* `bits` has nothing above the lowest `count`. No branch: whether a word is full cannot be foreseen. */
static inline void push(Sink *sink, u64 bits, i64 count) {
    u64 held = sink->held | bits << sink->count, over = bits >> 1 >> (63 - sink->count);
    i64 total = sink->count + count, full = total >> 6;
    memcpy(sink->at, &held, 8);
    sink->at += 8 * full;
    sink->held = full ? over : held;
    sink->count = (int)(total & 63);
}

/* Bits for one stream, pushed as they come, or, where they are `few` (at most AT_ONCE), all in the end. */
typedef struct {
    u64 bits;
    i64 count;
    bool few;
} Gathered;

static inline void gather(Sink *sink, Gathered *gathered, u64 bits, i64 count) {
    if (gathered->few) gathered->bits |= bits << gathered->count;
    else push(sink, bits, count);
    gathered->count += count;
}

/* How many they were. */
static inline i64 push_gathered(Sink *sink, const Gathered *gathered) {
    if (gathered->few) push(sink, gathered->bits, gathered->count);
    return gathered->count;
}

/* How many bytes it holds in the end; the last of them are written. */
static inline i64 close_sink(Sink *sink) {
    memcpy(sink->at, &sink->held, 8);
    return sink->at - sink->start + (sink->count + 7) / 8;
}

/* Bytes that a sink of one bit a word may write to. */
static inline i64 stream_room(i64 words) { return (words + 7) / 8 + 32; }

/* The first of the `size` consecutive keys that occur most often together; 0 where there are no more. */
static inline i64 densest_window(const u32 *counts, i64 keys, i64 size) {
    i64 sum = 0, largest = -1, best = 0;
    for (i64 key = 0; keys > size && key < keys; key++) {
        sum += counts[key];
        if (key >= size) sum -= counts[key - size];
        if (key >= size - 1 && sum > largest) {
            largest = sum;
            best = key - size + 1;
        }
    }
    return best;
}

static inline u8 *put_length(u8 *at, i64 length) {
    for (; length > 127; length >>= 7) *at++ = (u8)(length & 127) | 128;
    *at++ = (u8)length;
    return at;
}

/* Where the next length ends, -1: there is none here. */
static inline i64 take_length(const u8 *segment, i64 size, i64 at, i64 *length) {
    *length = 0;
    for (int place = 0; place < 5 && at < size; place++, at++) {
        *length |= (i64)(segment[at] & 127) << (7 * place);
        if (segment[at] < 128) return at + 1;
    }
    return -1;
}

/* `count` streams from the lengths at `at` on, which must end where the segment does. */
static inline bool open_sources(const u8 *segment, i64 size, i64 at, Source *sources, int count) {
    for (int i = 0; i < count; i++) {
        at = take_length(segment, size, at, &sources[i].bytes);
        if (at < 0) return false;
    }
    for (int i = 0; i < count; i++) {
        sources[i].start = at;
        sources[i].bit = 0;
        at += sources[i].bytes;
    }
    return at == size;
}

#endif
