/* Streams of bits behind each other in one segment, and their LEB128 lengths: the bytes of bits_numpy.py.

   A source never reads outside the segment: what is missing reads as zeros, and `ended` tells afterwards whether a
   stream was exactly as long as was taken. A sink may write eight bytes past what it holds. */
#ifndef MP_BITSTREAM_H
#define MP_BITSTREAM_H

#include "native.h"

typedef struct {
    i64 start, bytes, bit; /* where in the segment, how long, the next bit */
} Source;

static inline u64 peek(const u8 *segment, i64 size, const Source *source) {
    i64 at = source->start + (source->bit >> 3);
    int shift = (int)(source->bit & 7);
    u8 near[9] = {0};
    const u8 *from = segment + at;
    if (size - at < 9) {
        if (size > at) memcpy(near, segment + at, (size_t)(size - at));
        from = near;
    }
    u64 low;
    memcpy(&low, from, 8);
    return low >> shift | (u64)from[8] << 1 << (63 - shift);
}

/* The next bits, and as many again as were asked for; above them come others. */
static inline u64 pull(const u8 *segment, i64 size, Source *source, i64 count) {
    u64 bits = peek(segment, size, source);
    source->bit += count;
    return bits;
}

static inline bool ended(const Source *source) { return (source->bit + 7) / 8 == source->bytes; }

typedef struct {
    u8 *start, *at;
    u64 held;
    int count; /* bits in `held` */
} Sink;

static inline void open_sink(Sink *sink, u8 *start) { *sink = (Sink){start, start, 0, 0}; }

/* `bits` has nothing above the lowest `count`. */
static inline void push(Sink *sink, u64 bits, i64 count) {
    sink->held |= bits << sink->count;
    memcpy(sink->at, &sink->held, 8);
    i64 total = sink->count + count;
    if (total >= 64) {
        sink->at += 8;
        sink->held = sink->count ? bits >> (64 - sink->count) : 0;
    }
    sink->count = (int)(total & 63);
}

/* How many bytes it holds in the end; the last of them are written. */
static inline i64 close_sink(Sink *sink) {
    memcpy(sink->at, &sink->held, 8);
    return sink->at - sink->start + (sink->count + 7) / 8;
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
