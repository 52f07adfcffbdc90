/* Stored words to merged words: the compiled side of merge_words_numpy, chunk by chunk.

   A chunk in which an expert changes nothing costs a comparison of words: its terms would be zeros, which no sum
   shows. The rest goes the quick way (merge_groups.c), and what that leaves goes the exact way (merge.c). */
#include "merge_words.h"
#include "merge_groups.h"
#include "sources.h"

#define CHUNK_GROUPS 16
#define CHUNK (CHUNK_GROUPS * GROUP)
#define FEW (CHUNK_GROUPS / 4) /* groups of a chunk that go the exact way one by one */

/* Whether a delta of zeros counts as zeros. */
static bool calm(const Terms *terms, i64 e) {
    u32 scale = bits_of(terms->scale[e]) & MAGNITUDE, weight = bits_of(terms->weight[e]) & MAGNITUDE;
    return scale < INFINITE && weight < INFINITE;
}

typedef struct {
    const Sources *sources;
    const Terms *terms;
    u64 start;
    u16 *out;
    i64 *nonfinite;
} Job;

static void merge_piece(const Job *job, i64 at, i64 width) {
    const Sources *sources = job->sources;
    Parts parts;
    float base[PIECE], values[PIECE];
    widen(sources->base + at, width, sources->float16, base);
    job->nonfinite[0] += count_nonfinite(base, width);
    begin_parts(&parts);
    for (i64 e = 0; e < sources->count; e++) {
        if (calm(job->terms, e) && unchanged(sources, e, at, width)) continue;
        job->nonfinite[1 + e] += find_deltas(sources, e, at, width, base, values);
        weigh(&parts, job->terms, e, values, width, job->start + (u64)at);
    }
    merge_parts(&parts, job->terms, base, width, values);
    if (sources->float16)
        narrow_f16(values, base, width, job->out + at);
    else
        narrow_bf16(values, base, width, job->out + at);
}

static void merge_exactly(const Job *job, i64 at, i64 width) {
    for (i64 done = 0; done < width; done += PIECE) merge_piece(job, at + done, least(PIECE, width - done));
}

/* No expert changes these words. */
static void keep_words(const Job *job, i64 at, i64 width) {
    const u16 *base = job->sources->base + at;
    const u32 top = job->sources->float16 ? 0x7C00 : 0x7F80;
    u32 odd = 0;
    for (i64 i = 0; i < width; i++) odd += (base[i] & top) == top;
    job->nonfinite[0] += odd;
    memcpy(job->out + at, base, (size_t)width * 2);
}

static void merge_chunk(const Job *job, const Merger *merger, i64 at, i64 width) {
    const Quick *used[MOST_DELTAS];
    i64 full = 0, plain = 0, groups = width / GROUP, experts = job->sources->count;
    for (i64 e = 0; e < experts; e++) {
        if (job->sources->plain[e])
            used[experts - ++plain] = &merger->experts[e];
        else if (!unchanged(job->sources, e, at, width))
            used[full++] = &merger->experts[e];
    }
    for (i64 i = 0; i < plain; i++) used[full + i] = used[experts - plain + i];
    i64 count = full + plain;
    if (count == 0 && merger->base_scale == 1.0f) {
        keep_words(job, at, width);
        return;
    }
    u32 left = merger->merge(merger, used, full, count, at, groups, job->out);
    if (__builtin_popcount(left) > FEW) {
        merge_exactly(job, at, width);
        return;
    }
    for (; left != 0; left &= left - 1) merge_exactly(job, at + __builtin_ctz(left) * GROUP, GROUP);
    if (groups * GROUP < width) merge_exactly(job, at + groups * GROUP, width - groups * GROUP);
}

void words_combine(const Sources *sources, const Terms *terms, u64 start, u16 *restrict out,
                   i64 *restrict nonfinite) {
    const Job job = {sources, terms, start, out, nonfinite};
    Merger merger;
    memset(nonfinite, 0, (size_t)(1 + sources->count) * sizeof *nonfinite);
    if (!prepare_merger(terms, sources->base, sources->items, sources->float16, start, &merger)) {
        merge_exactly(&job, 0, sources->size);
        return;
    }
    for (i64 at = 0; at < sources->size; at += CHUNK)
        merge_chunk(&job, &merger, at, least(CHUNK, sources->size - at));
}
