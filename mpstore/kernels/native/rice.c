/* Rice codes of distances: the same code for words of four widths. See rice_body.h. */
#include "rice.h"

#include "bitstream.h"
#include "group.h"
#include "rice_plan.h"

#define WORD u8
#define NAME(name) name##_8
#include "distance_words.h"
#include "rice_words.h"
#include "rice_body.h"
#include "words_end.h"

#define WORD u16
#define NAME(name) name##_16
#define HALVES
#include "distance_words.h"
#include "rice_words.h"
#include "rice_body.h"
#include "words_end.h"

#define WORD u32
#define NAME(name) name##_32
#include "distance_words.h"
#include "rice_words.h"
#include "rice_body.h"
#include "words_end.h"

#define WORD u64
#define NAME(name) name##_64
#include "distance_words.h"
#include "rice_words.h"
#include "rice_body.h"
#include "words_end.h"

i64 rice_room(i64 words, int word_bytes) {
    i64 strips = (words + STRIP - 1) / STRIP, streams = FLAG_STREAMS + STEPS + 8 * word_bytes;
    return (2 * strips + 1) * STRIP * word_bytes + strips * GROUPS + streams * stream_room(words);
}

i64 rice_encode(const RiceShape *shape, const u8 *words, const u8 *base, i64 count, u8 *room, u8 *out) {
    i64 stream = stream_room(count);
    switch (shape->word_bytes) {
    case 1: return encode_8(shape, words, base, count, room, stream, out);
    case 2: return encode_16(shape, (const u16 *)words, (const u16 *)base, count, room, stream, out);
    case 4: return encode_32(shape, (const u32 *)words, (const u32 *)base, count, room, stream, out);
    default: return encode_64(shape, (const u64 *)words, (const u64 *)base, count, room, stream, out);
    }
}

bool rice_decode(const RiceShape *shape, const u8 *segment, i64 size, const u8 *base, i64 count, u8 *out) {
    RiceReader reader;
    RiceHead head;
    u8 parameters[CONTEXTS];
    if (!rice_read(&reader, &head, parameters, segment, size, count, 8 * shape->word_bytes, shape->mask)) return false;
    switch (shape->word_bytes) {
    case 1: return decode_8(shape, &reader, &head, base, count, out);
    case 2: return decode_16(shape, &reader, &head, (const u16 *)base, count, (u16 *)out);
    case 4: return decode_32(shape, &reader, &head, (const u32 *)base, count, (u32 *)out);
    default: return decode_64(shape, &reader, &head, (const u64 *)base, count, (u64 *)out);
    }
}
