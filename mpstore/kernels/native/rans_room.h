/* rans_room.c: what whole blocks are worked in, cut from one piece of memory, and the stream of a block as it is read. */
#ifndef MP_RANS_ROOM_H
#define MP_RANS_ROOM_H

#include "rans.h"

enum { COUNTS = RANS_MOST_ROWS * RANS_MOST_SYMBOLS };

/* Tables; arrays of the block's length lie behind. */
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

Scratch rans_lay_out(void *memory, i64 elements, i64 word_bytes);
/* Tables, and after them the words, which go to the scratch with what may follow them there; how many words, or -1:
   these bytes are not so. */
i64 rans_read_stream(const u8 *data, i64 size, i64 contexts, i64 symbols, i64 lanes, Scratch *scratch);

static inline i64 rans_chunks(i64 count) { return (count + RANS_CHUNK - 1) / RANS_CHUNK; }

#endif
