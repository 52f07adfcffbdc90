/* Tiles, parameters and the head of a rice segment: see rice_plan.h. */
#include "rice_plan.h"

static u64 middle_of(int token) {
    return token < 16 ? (u64)token : (u64)(4 | (token & 1) << 1 | 1) << ((token - 16) / 2 + 2);
}

u8 rice_choose_parameter(const u32 *counts, int tokens, int bits) {
    u64 middles[MOST_TOKENS];
    i64 present[MOST_TOKENS], total = 0, cheapest = -1;
    int used = 0, best = 0;
    for (int token = 0; token < tokens; token++) {
        if (counts[token] == 0) continue;
        middles[used] = middle_of(token);
        present[used++] = counts[token];
        total += counts[token];
    }
    for (int flag = 0; flag < 2; flag++) {
        for (int k = 0; k < bits - 1; k++) {
            i64 cost = flag * total + (total - flag * (i64)counts[0]) * (1 + k);
            for (int i = 0; i < used; i++) {
                u64 steps = middles[i] >= (u64)flag ? (middles[i] - (u64)flag) >> k : 0;
                cost += present[i] * (steps < STEPS ? (i64)steps : STEPS + bits);
            }
            if (cheapest < 0 || cost < cheapest) {
                best = k | flag * FLAGGED;
                cheapest = cost;
            }
        }
    }
    bool sparse = total != 0 && (i64)counts[0] * 5 >= total * 4;
    return (u8)(best | (sparse ? SPARSE : 0));
}

i64 rice_write(const RiceHead *head, Sink *sinks, const u8 *escapes, i64 escape_bytes, u8 *out, i64 capacity) {
    int streams = FLAG_STREAMS + STEPS + head->planes;
    i64 map_bytes = (tiles_of(head->groups, head->tile) + 7) / 8, bytes[MOST_STREAMS];
    i64 total = RICE_HEADER_BYTES + head->contexts + map_bytes + escape_bytes;
    u8 lengths[5 * MOST_STREAMS], *end = lengths;
    for (int s = 0; s < streams; s++) {
        total += bytes[s] = close_sink(&sinks[s]);
        end = put_length(end, bytes[s]);
    }
    end = put_length(end, escape_bytes);
    total += end - lengths;
    if (total >= capacity) return -1;
    u8 first[RICE_HEADER_BYTES] = {(u8)head->shift, (u8)head->lowest, (u8)(head->lowest >> 8),
                                   (u8)(head->contexts - 1), (u8)head->tile, (u8)head->planes};
    memcpy(out, first, sizeof first);
    out += sizeof first;
    memcpy(out, head->parameters, (size_t)head->contexts);
    out += head->contexts;
    out = put_map(out, head->coded, head->groups, head->tile);
    memcpy(out, lengths, (size_t)(end - lengths));
    out += end - lengths;
    for (int s = 0; s < streams; out += bytes[s++]) memcpy(out, sinks[s].start, (size_t)bytes[s]);
    memcpy(out, escapes, (size_t)escape_bytes);
    return total;
}

bool rice_read(RiceReader *reader, RiceHead *head, u8 *parameters, const u8 *segment, i64 size, i64 words,
               int bits, u64 mask) {
    if (size < RICE_HEADER_BYTES) return false;
    i64 groups = (words + 63) / 64;
    *head = (RiceHead){segment[0], segment[1] | (u64)segment[2] << 8, segment[3] + 1, segment[4], segment[5],
                       parameters, segment + RICE_HEADER_BYTES + segment[3] + 1, groups};
    if (head->shift >= bits || head->lowest > mask >> head->shift) return false;
    if (head->contexts > CONTEXTS || head->tile > LARGEST_TILE + 1 || head->planes >= bits)
        return false;
    i64 at = RICE_HEADER_BYTES + head->contexts + (tiles_of(groups, head->tile) + 7) / 8;
    if (size < at) return false;
    int most_planes = 0;
    memset(parameters, 0, CONTEXTS);
    memcpy(parameters, segment + RICE_HEADER_BYTES, (size_t)head->contexts);
    for (int c = 0; c < head->contexts; c++) most_planes = (int)most(most_planes, parameters[c] & K_MASK);
    *reader = (RiceReader){.segment = segment, .size = size, .planes = head->planes, .sound = true};
    return most_planes == head->planes &&
           open_sources(segment, size, at, reader->sources, FLAG_STREAMS + STEPS + head->planes + 1);
}

bool rice_ended(const RiceReader *reader) {
    int streams = FLAG_STREAMS + STEPS + reader->planes;
    bool sound = reader->sound && reader->escaped_bytes == reader->sources[streams].bytes;
    for (int s = 0; s < streams; s++) sound = sound && ended(&reader->sources[s]);
    return sound;
}
