/* Blocks of distances to a base, as rans-delta in docs/codecs.md has them. */
#include "rans_room.h"

enum { HEADER_BYTES = 7, LONGEST_RUN = 65535 };

static i64 map_bytes(i64 chunks, i64 run) { return run > 0 ? ((chunks + run - 1) / run + 7) / 8 : 0; }

i64 rans_delta_bytes(i64 elements, i64 word_bytes) {
    return HEADER_BYTES + map_bytes(rans_chunks(elements), 1) + (i64)sizeof(((Room *)0)->tables) +
           2 * (elements * word_bytes / 2 + RANS_ROOM);
}

static i64 lanes_for(i64 count) { return count >= RANS_MANY_FROM ? RANS_MANY : RANS_FEW; }

static u8 *put_number(u8 *out, i64 value, i64 bytes) {
    for (i64 i = 0; i < bytes; i++) *out++ = (u8)(value >> (8 * i));
    return out;
}

static i64 get_number(const u8 *data, i64 bytes) {
    i64 value = 0;
    for (i64 i = 0; i < bytes; i++) value |= (i64)data[i] << (8 * i);
    return value;
}

/* Distances and the map of changes; which chunks are coded. */
static void measure(const RansShape *shape, const u8 *words, const u8 *base, i64 count, Scratch *scratch) {
    for (i64 at = 0; at < count; at += RANS_CHUNK) {
        i64 byte = at * shape->bytes, here = least(RANS_CHUNK, count - at);
        scratch->coded[at / RANS_CHUNK] =
            rans_distances(shape, words + byte, base + byte, here, scratch->distances + byte);
    }
}

/* Tokens, keys and how often each pair of them occurs. Four tables in turn: equal neighbours (zeros, mostly) would
   otherwise wait for each other's store. */
static void count_tokens(const RansShape *shape, const u8 *base, i64 count, i64 lowest, Scratch *scratch) {
    u32 (*counts)[COUNTS] = scratch->room->counts, keys[RANS_CHUNK];
    i64 symbols = shape->symbols;
    memset(counts, 0, sizeof scratch->room->counts);
    for (i64 at = 0; at < count; at += RANS_CHUNK) {
        i64 here = least(RANS_CHUNK, count - at);
        if (!scratch->coded[at / RANS_CHUNK]) continue;
        rans_tokens(shape, scratch->distances + at * shape->bytes, here, scratch->tokens + at);
        rans_contexts(shape, base + at * shape->bytes, here, (u64)lowest, (u64)(lowest + shape->rows - 1), keys);
        for (i64 i = 0; i < here; i++) scratch->keys[at + i] = (u8)keys[i];
        for (i64 i = 0; i < here; i++) keys[i] = keys[i] * (u32)symbols + scratch->tokens[at + i];
        for (i64 i = 0; i < here; i++) counts[i % 4][keys[i]]++;
    }
    for (i64 i = 0; i < shape->rows * symbols; i++) counts[0][i] += counts[1][i] + counts[2][i] + counts[3][i];
}

/* What is in front of the words. */
typedef struct {
    i64 lanes, shift, lowest, contexts, run, table_bytes;
} Head;

static u8 *put_head(const Head *head, const u8 *coded, i64 chunks, const u8 *tables, u8 *out) {
    out = put_number(out, head->lanes, 1);
    out = put_number(out, head->shift, 1);
    out = put_number(out, head->lowest, 2);
    out = put_number(out, head->contexts - 1, 1);
    out = put_number(out, head->run, 2);
    memset(out, 0, (size_t)map_bytes(chunks, head->run));
    for (i64 bit = 0; head->run > 0 && bit * head->run < chunks; bit++)
        out[bit / 8] |= (u8)((coded[bit * head->run] != 0) << bit % 8);
    out += map_bytes(chunks, head->run);
    memcpy(out, tables, (size_t)head->table_bytes);
    return out + head->table_bytes;
}

i64 rans_encode_delta(const RansShape *shape, const void *words, const void *base, i64 count, const RansScales *scales,
                      void *memory, u8 *out) {
    Scratch scratch = rans_lay_out(memory, count, shape->bytes);
    Room *room = scratch.room;
    i64 low, chunks = rans_chunks(count);
    measure(shape, words, base, count, &scratch);
    i64 run = rans_change_run(scratch.coded, chunks);
    i64 largest = (i64)(rans_largest(shape, base, count) >> shape->shift);
    i64 lowest = most(0, largest - shape->rows + 1);
    count_tokens(shape, base, count, lowest, &scratch);
    i64 contexts = rans_plan_contexts(room->counts[0], shape->rows, shape->symbols, scales, room->kept, &low);
    rans_choose_codes(room->kept, contexts, shape->symbols, scales, room->codes);
    memset(room->tables, 0, sizeof room->tables);
    i64 table_bytes = (rans_write_tables(room->codes, contexts, shape->symbols, room->tables) + 7) / 8;
    rans_frequencies(room->codes, contexts, shape->symbols, room->frequency);
    Head head = {lanes_for(count), shape->shift, lowest + low, contexts, run <= LONGEST_RUN ? run : 1, table_bytes};
    i64 start = rans_encode_distances(shape, scratch.distances, scratch.tokens, scratch.keys, scratch.coded, count, low,
                                      room->frequency, contexts, head.lanes, scratch.words, scratch.word_room);
    if (start < 0) return -1;
    u8 *at = put_head(&head, scratch.coded, chunks, room->tables, out);
    i64 word_bytes = 2 * (scratch.word_room - start);
    memcpy(at, scratch.words + start, (size_t)word_bytes);
    return at + word_bytes - out;
}

bool rans_decode_delta(const RansShape *shape, const u8 *data, i64 size, const void *base, i64 count, void *memory,
                       void *out) {
    Scratch scratch = rans_lay_out(memory, count, shape->bytes);
    if (size < HEADER_BYTES || size > count * shape->bytes) return false;
    i64 lanes = data[0], shift = data[1], lowest = get_number(data + 2, 2), contexts = data[4] + 1;
    i64 run = get_number(data + 5, 2), chunks = rans_chunks(count), at = HEADER_BYTES;
    if (shift >= 8 * shape->bytes || (u64)(lowest + contexts - 1) > shape->mask >> shift) return false;
    memset(scratch.coded, 1, (size_t)chunks);
    if (run > 0) {
        if (size - at < map_bytes(chunks, run)) return false;
        for (i64 chunk = 0; chunk < chunks; chunk++)
            scratch.coded[chunk] = data[at + chunk / run / 8] >> (chunk / run % 8) & 1;
        at += map_bytes(chunks, run);
    }
    i64 used = rans_read_stream(data + at, size - at, contexts, shape->symbols, lanes, &scratch);
    RansShape own = *shape;
    own.shift = shift;
    return used >= 0 && rans_decode_distances(&own, scratch.words, used, scratch.room->slots, (u64)lowest, contexts,
                                              lanes, scratch.coded, base, count, out);
}
