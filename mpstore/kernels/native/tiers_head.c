/* See tiers_head.h. */
#include "tiers_head.h"

static u32 above_of(const u32 *less, i64 limit) { return less[COUNTED] - less[least(limit + 1, COUNTED)]; }

/* Each calm element that is not zero has its row told; several fall into one row, the more the fuller rows are. */
u16 choose_calm(const TierCounts *counts) {
    i64 calm = 0, moved = 0, rows = 8 * counts->groups, all = 64 * counts->groups, cheapest = all - 4 * counts->groups;
    int best = -1;
    for (int key = KEYS - 1; key >= 0; key--) {
        calm += counts->keys[key];
        moved += counts->moved[key];
        i64 bits = all - calm + rows + (moved ? calm * moved * 8 / (8 * rows + 5 * moved) : 0);
        if (bits < cheapest) {
            cheapest = bits;
            best = key;
        }
    }
    return best < 0 ? NO_CALM : (u16)(best << KEY_SHIFT);
}

void choose_tiers(const TierCounts *counts, TierHead *head) {
    u32 less[COUNTED + 1]; /* of each distance, how many are smaller */
    less[0] = 0;
    for (int z = 0; z < COUNTED; z++) less[z + 1] = less[z] + counts->distances[z];
    i64 cheapest = -1;
    for (int low = 0; low <= MOST_LOW; low++) {
        for (int middle = 1; low + middle <= MOST_BITS; middle++) {
            i64 near = (i64)1 << low, far = (i64)1 << (low + middle);
            i64 bits = (low + 1) * (i64)above_of(less, 0) + (middle + 1) * (i64)above_of(less, near) +
                       8 * (i64)above_of(less, near + far) + 16 * (i64)above_of(less, near + far + FULL * far);
            if (cheapest < 0 || bits < cheapest) {
                cheapest = bits;
                head->low = low;
                head->middle = middle;
            }
        }
    }
}

i64 tiers_write(const TierHead *head, const u8 *coded, i64 groups, Sink *sinks, const u8 *third, i64 third_bytes,
                const u16 *words, i64 word_bytes, u8 *out, i64 capacity) {
    int streams = third_tier(head);
    i64 total = TIERS_HEADER_BYTES + (tiles_of(groups, head->tile) + 7) / 8 + third_bytes + word_bytes;
    i64 bytes[MOST_STREAMS];
    u8 lengths[5 * MOST_STREAMS], *end = lengths;
    for (int s = 0; s < streams; s++) {
        total += bytes[s] = close_sink(&sinks[s]);
        end = put_length(end, bytes[s]);
    }
    end = put_length(put_length(end, third_bytes), word_bytes);
    total += end - lengths;
    if (total >= capacity) return -1;
    *out++ = (u8)(head->low | head->middle << 4);
    *out++ = (u8)head->tile;
    *out++ = (u8)head->calm;
    *out++ = (u8)(head->calm >> 8);
    out = put_map(out, coded, groups, head->tile);
    memcpy(out, lengths, (size_t)(end - lengths));
    out += end - lengths;
    for (int s = 0; s < streams; out += bytes[s++]) memcpy(out, sinks[s].start, (size_t)bytes[s]);
    memcpy(out, third, (size_t)third_bytes);
    memcpy(out + third_bytes, words, (size_t)word_bytes);
    return total;
}

bool tiers_read(TierReader *reader, TierHead *head, const u8 *segment, i64 size, i64 groups) {
    if (size < TIERS_HEADER_BYTES) return false;
    *head = (TierHead){segment[0] & 15, segment[0] >> 4, segment[1],
                       (u16)(segment[2] | segment[3] << 8)};
    if (head->low > MOST_LOW || head->middle < 1 || head->low + head->middle > MOST_BITS) return false;
    if (head->tile > LARGEST_TILE + 1) return false;
    i64 at = TIERS_HEADER_BYTES + (tiles_of(groups, head->tile) + 7) / 8;
    *reader = (TierReader){.segment = segment, .map = segment + TIERS_HEADER_BYTES, .size = size, .sound = true};
    return size >= at && open_sources(segment, size, at, reader->sources, third_tier(head) + 2);
}

bool tiers_ended(const TierReader *reader, const TierHead *head) {
    int streams = third_tier(head);
    bool sound = reader->sound && reader->third_bytes == reader->sources[streams].bytes &&
                 reader->word_bytes == reader->sources[streams + 1].bytes;
    for (int s = 0; s < streams; s++) sound = sound && ended(&reader->sources[s]);
    return sound;
}
