/* One pass over values before they are sorted, and one over what was sorted. */
#include "ranks.h"

void falling_words(const double *values, i64 items, i64 bits, i64 *words) {
    for (i64 i = 0; i < items; i++) {
        double falling = 0.0 - values[i]; /* never -0.0 */
        u64 word;
        memcpy(&word, &falling, sizeof word);
        word ^= (0 - (word >> 63)) & 0x7FFFFFFFFFFFFFFFu; /* as integers they are ordered as the values are */
        words[i] = (i64)((word & ~(((u64)1 << bits) - 1)) | (u64)i);
    }
}

i64 enter_ranks(i64 *words, i64 items, i64 bits, i64 *rank, i64 *tied, i64 *run) {
    i64 count = 0, runs = 0, last = 0;
    for (i64 place = 0; place < items; place++) {
        i64 leading = words[place] >> bits, index = words[place] & (((i64)1 << bits) - 1);
        bool after = place + 1 < items && words[place + 1] >> bits == leading;
        bool before = place > 0 && last == leading;
        runs += !before;
        if (before || after) {
            tied[count] = place;
            run[count++] = runs;
        }
        last = leading;
        words[place] = index;
        if (index < items) rank[index] = place;
    }
    return count;
}
