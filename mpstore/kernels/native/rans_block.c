/* Whole blocks through the rANS codecs: the coders strung together as codecs.rans_delta and codecs.rans_planes do. */
#include "planes.h"
#include "rans.h"

enum { HEADER_BYTES = 7, LONGEST_RUN = 65535, COUNTS = RANS_MOST_ROWS * RANS_MOST_SYMBOLS };
enum { RAW_PLANE = 0, RANS_PLANE = 2 }; /* modes */

/* What a block is worked in: tables, and arrays of the block's length, which lie behind. */
typedef struct {
    u32 slots[RANS_MOST_CONTEXTS * RANS_SLOTS];
    u32 frequency[RANS_MOST_CONTEXTS * 256];
    u8 codes[RANS_MOST_CONTEXTS * 256];
    u32 counts[4][COUNTS];
    i64 kept[COUNTS];
    u8 tables[RANS_MOST_ROWS * RANS_TABLE_BYTES];
} Room;

/* Addresses in it. */
typedef struct {
    Room *room;
    u8 *distances; /* or planes */
    u16 *words;
    i64 word_room;
    u8 *tokens, *keys, *coded;
} Scratch;

static i64 padded(i64 bytes) { return (bytes + 63) / 64 * 64; }

static i64 chunks_of(i64 count) { return (count + RANS_CHUNK - 1) / RANS_CHUNK; }

static u8 *cut(u8 **from, i64 bytes) {
    u8 *piece = *from;
    *from += padded(bytes);
    return piece;
}

static Scratch lay_out(void *memory, i64 elements, i64 word_bytes) {
    u8 *from = (u8 *)memory + (64 - (uintptr_t)memory % 64) % 64;
    Scratch scratch = {.word_room = elements * word_bytes / 2 + RANS_ROOM};
    scratch.room = (Room *)(void *)cut(&from, sizeof(Room));
    scratch.distances = cut(&from, elements * word_bytes);
    scratch.words = (u16 *)(void *)cut(&from, 2 * (scratch.word_room + RANS_SLACK));
    scratch.tokens = cut(&from, elements);
    scratch.keys = cut(&from, elements);
    scratch.coded = cut(&from, chunks_of(elements));
    return scratch;
}

i64 rans_scratch_bytes(i64 elements, i64 word_bytes) {
    i64 arrays = elements * (2 * word_bytes + 2) + chunks_of(elements) + 2 * (RANS_ROOM + RANS_SLACK);
    return (i64)sizeof(Room) + arrays + 7 * 64; /* each begins at a multiple of 64 */
}

static i64 map_bytes(i64 chunks, i64 run) { return run > 0 ? ((chunks + run - 1) / run + 7) / 8 : 0; }

i64 rans_delta_bytes(i64 elements, i64 word_bytes) {
    return HEADER_BYTES + map_bytes(chunks_of(elements), 1) + (i64)sizeof(((Room *)0)->tables) +
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
    Scratch scratch = lay_out(memory, count, shape->bytes);
    Room *room = scratch.room;
    i64 low, chunks = chunks_of(count);
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

/* Tables, and after them the words, which go to the scratch with what may follow them there; how many words. */
static i64 read_stream(const u8 *data, i64 size, i64 contexts, i64 symbols, i64 lanes, Scratch *scratch) {
    Room *room = scratch->room;
    if (lanes != RANS_FEW && lanes != RANS_MANY) return -1;
    memset(room->codes, 0, (size_t)(contexts * symbols));
    i64 bits = rans_read_tables(data, least(size, contexts * RANS_TABLE_BYTES), contexts, symbols, room->codes);
    i64 bytes = size - (bits + 7) / 8;
    if (bits < 0 || bytes % 2 != 0 || bytes < 4 * lanes || bytes > 2 * scratch->word_room) return -1;
    memcpy(scratch->words, data + size - bytes, (size_t)bytes);
    memset(scratch->words + bytes / 2, 0, 2 * RANS_SLACK);
    rans_frequencies(room->codes, contexts, symbols, room->frequency);
    return rans_slots(room->frequency, contexts, symbols, room->slots) ? bytes / 2 : -1;
}

bool rans_decode_delta(const RansShape *shape, const u8 *data, i64 size, const void *base, i64 count, void *memory,
                       void *out) {
    Scratch scratch = lay_out(memory, count, shape->bytes);
    if (size < HEADER_BYTES || size > count * shape->bytes) return false;
    i64 lanes = data[0], shift = data[1], lowest = get_number(data + 2, 2), contexts = data[4] + 1;
    i64 run = get_number(data + 5, 2), chunks = chunks_of(count), at = HEADER_BYTES;
    if (shift >= 8 * shape->bytes || (u64)(lowest + contexts - 1) > shape->mask >> shift) return false;
    memset(scratch.coded, 1, (size_t)chunks);
    if (run > 0) {
        if (size - at < map_bytes(chunks, run)) return false;
        for (i64 chunk = 0; chunk < chunks; chunk++)
            scratch.coded[chunk] = data[at + chunk / run / 8] >> (chunk / run % 8) & 1;
        at += map_bytes(chunks, run);
    }
    i64 used = read_stream(data + at, size - at, contexts, shape->symbols, lanes, &scratch);
    RansShape own = *shape;
    own.shift = shift;
    return used >= 0 && rans_decode_distances(&own, scratch.words, used, scratch.room->slots, (u64)lowest, contexts,
                                              lanes, scratch.coded, base, count, out);
}

static bool decode_plane(const u8 *data, i64 size, i64 count, Scratch *scratch, u8 *out) {
    if (size == count + 1 && data[0] == RAW_PLANE) {
        memcpy(out, data + 1, (size_t)count);
        return true;
    }
    if (size < 2 || size > count || data[0] != RANS_PLANE) return false;
    i64 used = read_stream(data + 2, size - 2, 1, 256, data[1], scratch);
    return used >= 0 && rans_decode_symbols(scratch->words, used, scratch->room->slots, data[1], count, out);
}

bool rans_decode_planes(void *const *planes, const i64 *sizes, i64 word_bytes, bool rotated, i64 count, void *memory,
                        void *out) {
    Scratch scratch = lay_out(memory, count, word_bytes);
    for (i64 plane = 0; plane < word_bytes; plane++) {
        u8 *target = scratch.distances + plane * count;
        if (!decode_plane(planes[plane], sizes[plane], count, &scratch, target)) return false;
    }
    join_planes(scratch.distances, word_bytes, count, rotated, out);
    return true;
}
