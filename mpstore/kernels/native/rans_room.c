/* Memory for whole blocks, and what is read into it. */
#include "rans_room.h"

static i64 padded(i64 bytes) { return (bytes + 63) / 64 * 64; }

static u8 *cut(u8 **from, i64 bytes) {
    u8 *piece = *from;
    *from += padded(bytes);
    return piece;
}

Scratch rans_lay_out(void *memory, i64 elements, i64 word_bytes) {
    u8 *from = (u8 *)memory + (64 - (uintptr_t)memory % 64) % 64;
    Scratch scratch = {.word_room = elements * word_bytes / 2 + RANS_ROOM};
    scratch.room = (Room *)(void *)cut(&from, sizeof(Room));
    scratch.distances = cut(&from, elements * word_bytes);
    scratch.words = (u16 *)(void *)cut(&from, 2 * (scratch.word_room + RANS_SLACK));
    scratch.tokens = cut(&from, elements);
    scratch.keys = cut(&from, elements);
    scratch.coded = cut(&from, rans_chunks(elements));
    return scratch;
}

i64 rans_scratch_bytes(i64 elements, i64 word_bytes) {
    i64 arrays = elements * (2 * word_bytes + 2) + rans_chunks(elements) + 2 * (RANS_ROOM + RANS_SLACK);
    return (i64)sizeof(Room) + arrays + 7 * 64; /* each begins at a multiple of 64 */
}

i64 rans_read_stream(const u8 *data, i64 size, i64 contexts, i64 symbols, i64 lanes, Scratch *scratch) {
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
