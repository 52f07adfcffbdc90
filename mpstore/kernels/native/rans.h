/* rans_*.c: interleaved rANS of symbols and of distances to a base (codec_rans_numpy; docs/codecs.md).

   A state is 32 bits in [2^16, 2^32), a word 16 bits, a probability 12 bits. Tables are rows of symbols, one row a
   context. Decoders take any words: they look at no more than RANS_SLACK words behind the last, whatever those are. */
#ifndef MP_RANS_H
#define MP_RANS_H

#include "native.h"

enum {
    RANS_FEW = 4, /* lanes */
    RANS_MANY = 32,
    RANS_MANY_FROM = 8192,
    RANS_CHUNK = 128,
    RANS_TURNS = 4,                    /* of 16 raw bits, at most */
    RANS_SLACK = 5 * RANS_CHUNK + 1,   /* a symbol and four turns an element */
    RANS_ROOM = 2048,                  /* words an encoder may take beyond the size of its block */
    RANS_TABLE_BYTES = 3 + 18 * 256 / 8,
    RANS_LAST_CODE = 51,
    RANS_SLOTS = 4096,
    RANS_MOST_CONTEXTS = 256,
    RANS_MOST_SYMBOLS = 136, /* of distances */
    RANS_MOST_ROWS = 32,     /* contexts an encoder tells apart */
};
#define RANS_LOW (1u << 16)

/* rans_tables.c: weight codes, and the frequencies they stand for. Each row of codes has one that is not zero. */
typedef struct {
    const i64 *logs, *edges; /* rans_tables.LOGS, and .EDGES of which there are `edge_count` */
    i64 edge_count;
} RansScales;

void rans_choose_codes(const i64 *counts, i64 contexts, i64 symbols, const RansScales *scales, u8 *codes);
void rans_frequencies(const u8 *codes, i64 contexts, i64 symbols, u32 *out);
i64 rans_write_tables(const u8 *codes, i64 contexts, i64 symbols, u8 *out); /* `out` is zeroed */
i64 rans_read_tables(const u8 *bits, i64 size, i64 contexts, i64 symbols, u8 *codes);

/* rans_plan.c: which contexts are worth a table. `kept` is as large as `counts`. */
i64 rans_plan_contexts(const u32 *counts, i64 rows, i64 symbols, const RansScales *scales, i64 *kept, i64 *low);
i64 rans_change_run(const u8 *coded, i64 chunks);

/* rans_words.c: the words of a block, of 1, 2, 4 or 8 bytes at any address. */
typedef struct {
    i64 bytes, symbols, rows, shift;
    u64 mask; /* (base word & mask) >> shift is its key, of which `rows` are told apart */
    bool sign_magnitude;
} RansShape;

bool rans_distances(const RansShape *shape, const void *words, const void *base, i64 count, void *out);
u64 rans_largest(const RansShape *shape, const void *base, i64 count);
/* Contexts (the key less `lowest`, at most `highest`) of a chunk; its tokens; its raw bits, as many as there are
   turns of them (which it returns); and its words from tokens and raw bits. */
void rans_contexts(const RansShape *shape, const void *base, i64 count, u64 lowest, u64 highest, u32 *out);
void rans_tokens(const RansShape *shape, const void *distances, i64 count, u8 *tokens);
typedef u32 RansTurns[RANS_TURNS][RANS_CHUNK];
i64 rans_raw_bits(const RansShape *shape, const void *distances, const u8 *tokens, i64 count, RansTurns widths,
                  RansTurns rests);
void rans_restore(const RansShape *shape, const u32 *tokens, RansTurns rests, i64 turns, const void *base, i64 count,
                  void *out);

/* rans_decode.c. A context has RANS_SLOTS slots: symbol (8 bits), its frequency (12), the slot's offset in it (12).
   False: a row does not sum to RANS_SLOTS. */
bool rans_slots(const u32 *frequency, i64 contexts, i64 symbols, u32 *slots);
/* `words` has `used` ones and RANS_SLACK of anything. False: no encoder wrote these. */
bool rans_decode_symbols(const u16 *words, i64 used, const u32 *slots, i64 lanes, i64 count, u8 *out);
bool rans_decode_distances(const RansShape *shape, const u16 *words, i64 used, const u32 *slots, u64 lowest,
                           i64 contexts, i64 lanes, const u8 *coded, const void *base, i64 count, void *out);

/* rans_encode.c: the words go to the end of `words`; the index of the first, -1: no room. */
i64 rans_encode_symbols(const u8 *symbols, i64 count, const u32 *frequency, i64 lanes, u16 *words, i64 room);
i64 rans_encode_distances(const RansShape *shape, const void *distances, const u8 *tokens, const u8 *keys,
                          const u8 *coded, i64 count, i64 low, const u32 *frequency, i64 contexts, i64 lanes,
                          u16 *words, i64 room);

/* rans_room.c, rans_delta.c, rans_planes.c: whole blocks, as codecs.rans_delta and codecs.rans_planes have them. What
   they work in is cut from one piece of memory, and a delta may take more than its block: so many bytes. */
i64 rans_scratch_bytes(i64 elements, i64 word_bytes);
i64 rans_delta_bytes(i64 elements, i64 word_bytes);
/* Bytes that went into `out`; -1: far more than those of the block. */
i64 rans_encode_delta(const RansShape *shape, const void *words, const void *base, i64 count, const RansScales *scales,
                      void *scratch, u8 *out);
/* False: these bytes are not a whole block, or a plane went through zstd. */
bool rans_decode_delta(const RansShape *shape, const u8 *data, i64 size, const void *base, i64 count, void *scratch,
                       void *out);
bool rans_decode_planes(void *const *planes, const i64 *sizes, i64 word_bytes, bool rotated, i64 count, void *scratch,
                        void *out);

/* A token below 16 is the distance itself, another one has raw bits, which are coded 16 a turn: how many turns, and
   how many bits in one of them. */
static inline i64 rans_turns(u32 token) { return token < 16 ? 0 : ((i64)(token >> 1) - 5 + 15) / 16; }

static inline u32 rans_width(u32 token, i64 turn) {
    i32 width = ((i32)(token >> 1) - 5 - 16 * (i32)turn) & -(i32)(token >= 16);
    width = width < 0 ? 0 : width;
    return (u32)(width > 16 ? 16 : width);
}

#endif
