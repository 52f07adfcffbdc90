/* Frames with Rice codes or tiers, from their headers to words. What is odd about one is left to those who can say
   what. */
#include "leaning.h"

#define MAGIC_BYTES 4
#define CHECKED_FROM 8 /* the checksum covers the header from the id on */
#define CODEC_AT 40
#define BASE_AT 52
#define LENGTH_AT (BASE_AT + ID_BYTES)
#define HEADER_BYTES (LENGTH_AT + 4) /* of a frame with a base and one segment */

static u32 word_at(const u8 *from) {
    return (u32)from[0] | (u32)from[1] << 8 | (u32)from[2] << 16 | (u32)from[3] << 24;
}

/* CRC-32 as zlib has it, four bits at a time. */
static u32 checksum(const u8 *from, i64 size) {
    static const u32 table[16] = {
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
        0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
    };
    u32 sum = ~0u;
    for (i64 i = 0; i < size; i++) {
        sum ^= from[i];
        sum = sum >> 4 ^ table[sum & 15];
        sum = sum >> 4 ^ table[sum & 15];
    }
    return ~sum;
}

static bool decoded(const Leaning *leaning, const u8 *frame, i64 size, const u8 *id, u8 *out) {
    const u8 *kind = frame + CODEC_AT;
    if (size < HEADER_BYTES || memcmp(frame, "mpF1", MAGIC_BYTES) != 0) return false;
    bool tiers = kind[0] == leaning->tiers && leaning->shape.word_bytes == 2;
    if (!tiers && kind[0] != leaning->rice) return false;
    if (kind[1] != leaning->form || kind[2] != 1 || kind[3] != 1) return false;
    if (checksum(frame + CHECKED_FROM, HEADER_BYTES - CHECKED_FROM) != word_at(frame + MAGIC_BYTES)) return false;
    if (memcmp(frame + CHECKED_FROM, id, ID_BYTES) != 0) return false;
    if (memcmp(frame + BASE_AT, leaning->base_id, ID_BYTES) != 0) return false;
    i64 payload = size - HEADER_BYTES;
    if (word_at(kind + 4) != leaning->words * leaning->shape.word_bytes || word_at(kind + 8) != payload) return false;
    if (word_at(frame + LENGTH_AT) != payload) return false;
    const u8 *segment = frame + HEADER_BYTES;
    if (!tiers) return rice_decode(&leaning->shape, segment, payload, leaning->base, leaning->words, out);
    return tiers_decode(leaning->shape.sign_magnitude, segment, payload, (const u16 *)leaning->base, leaning->words,
                        (u16 *)out);
}

static bool hashes_to(const u8 *content, i64 size, const u8 *id, u8 *room) {
    u8 own[ID_BYTES];
    blake3_hash(content, size, room, own);
    return memcmp(own, id, ID_BYTES) == 0;
}

bool decode_leaning(const Leaning *leaning, const u8 *frame, i64 size, const u8 *id, u8 *out) {
    i64 bytes = leaning->words * leaning->shape.word_bytes;
    return decoded(leaning, frame, size, id, out) &&
           (leaning->room == NULL || hashes_to(out, bytes, id, leaning->room));
}

bool merge_leaning(const Leaning *leaning, bool verify, const LeaningMerge *merge, u8 *out, i64 *nonfinite, u8 *out_id) {
    i64 bytes = leaning->words * leaning->shape.word_bytes;
    for (i64 e = 0; e < merge->sources.count; e++) {
        const u8 *id = merge->ids + ID_BYTES * e;
        u8 *row = merge->rows + ROW_STRIDE(bytes) * e;
        if (!decoded(leaning, merge->frames[e], merge->sizes[e], id, row)) return false;
        if (verify && !hashes_to(row, bytes, id, leaning->room)) return false;
    }
    words_combine(&merge->sources, merge->terms, merge->start, (u16 *)out, nonfinite);
    blake3_hash(out, bytes, leaning->room, out_id);
    return true;
}
