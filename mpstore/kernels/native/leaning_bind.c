/* Bindings of leaning.c. */
#include "leaning.h"
#include "terms_bind.h"

/* Integers from `at` on: rice, tiers, form, word_bytes, sign_magnitude, shift; the first unsigned one: mask.
   False: a Python error is set. */
static bool take_kind(const Call *call, int at, i64 block_bytes, Leaning *out) {
    const i64 *numbers = call->integers + at;
    RiceShape shape = {(int)numbers[3], numbers[4] != 0, call->words[0], (int)numbers[5]};
    int width = shape.word_bytes;
    bool fits = (width == 1 || width == 2 || width == 4 || width == 8) && shape.shift >= 0 &&
                shape.shift < 8 * width && shape.mask >> shape.shift < 2048;
    fits = fits && block_bytes > 0 && block_bytes % width == 0;
    *out = (Leaning){.shape = shape, .rice = (int)numbers[0], .tiers = (int)numbers[1], .form = (int)numbers[2]};
    out->words = fits ? block_bytes / width : 0;
    return require(fits, "blocks of whole words, not empty");
}

#define KIND_PATTERN "i i i i i i u"

/* (frames, ids, base_id, base, out, room, whole, kind..., verify): frame i, of the object of which ids has the i-th id,
   to the i-th row of out; whole[i] is 1 where it was one that is decoded here. */
static PyObject *py_decode_leaning(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "R1 r1 r1 r1 w1 w1 w1 " KIND_PATTERN " i")) return NULL;
    Arrays *frames = &call.lists[0];
    Array *ids = &call.arrays[0], *base_id = &call.arrays[1], *base = &call.arrays[2], *out = &call.arrays[3];
    Array *room = &call.arrays[4], *whole = &call.arrays[5];
    Leaning leaning;
    if (!take_kind(&call, 0, base->items, &leaning)) return end(&call, NULL);
    if (!require(base_id->items == ID_BYTES && ids->items == ID_BYTES * frames->count &&
                     out->items == base->items * frames->count && whole->items == frames->count &&
                     room->items >= blake3_room(base->items),
                 "an id and a row for each frame, and room"))
        return end(&call, NULL);
    leaning.base_id = base_id->data;
    leaning.base = base->data;
    leaning.room = call.integers[6] ? room->data : NULL;
    Py_BEGIN_ALLOW_THREADS
    for (i64 i = 0; i < frames->count; i++)
        ((u8 *)whole->data)[i] = decode_leaning(&leaning, frames->data[i], frames->items[i],
                                                (u8 *)ids->data + ID_BYTES * i, (u8 *)out->data + base->items * i);
    Py_END_ALLOW_THREADS
    return end(&call, Py_NewRef(Py_None));
}

/* (frames, ids, bases, base_ids, plain, starts, out, nonfinite, out_ids, rows, room, whole, terms..., kind..., verify,
   half): block i of 16-bit words is made of base i and the i-th of as many frames each as plain has flags; whole[i] is 1
   where that was done. */
static PyObject *py_merge_leaning(PyObject *module, PyObject *args) {
    Call call;
    Terms terms;
    Leaning leaning;
    if (!begin(&call, args,
               "R1 r1 R1 r1 r1 r8 w1 w8 w1 w1 w1 w1 " TERMS_PATTERN " " KIND_PATTERN " i i"))
        return NULL;
    Arrays *frames = &call.lists[0], *bases = &call.lists[1];
    Array *ids = &call.arrays[0], *base_ids = &call.arrays[1], *plain = &call.arrays[2], *starts = &call.arrays[3];
    Array *out = &call.arrays[4], *nonfinite = &call.arrays[5], *out_ids = &call.arrays[6], *rows = &call.arrays[7];
    Array *room = &call.arrays[8], *whole = &call.arrays[9];
    i64 blocks = bases->count, experts = plain->items, bytes = blocks > 0 ? bases->items[0] : 0;
    if (!take_terms(&call, 10, 0, experts, &terms)) return end(&call, NULL);
    if (!take_kind(&call, 4, bytes, &leaning)) return end(&call, NULL);
    bool fits = leaning.shape.word_bytes == 2 && all_have(bases, bytes) && frames->count == blocks * experts &&
                ids->items == ID_BYTES * frames->count && base_ids->items == ID_BYTES * blocks &&
                starts->items == blocks && out->items == bytes * blocks &&
                nonfinite->items == blocks * (1 + experts) && out_ids->items == ID_BYTES * blocks &&
                rows->items >= ROW_STRIDE(bytes) * experts && room->items >= blake3_room(bytes) && whole->items == blocks &&
                experts <= MOST_DELTAS;
    if (!require(fits, "blocks of one size, and for each block what is taken and made")) return end(&call, NULL);
    bool verify = call.integers[10] != 0;
    const u16 *items[MOST_DELTAS];
    for (i64 e = 0; e < experts; e++) items[e] = (const u16 *)((u8 *)rows->data + ROW_STRIDE(bytes) * e);
    leaning.room = room->data;
    Py_BEGIN_ALLOW_THREADS
    for (i64 i = 0; i < blocks; i++) {
        leaning.base_id = (u8 *)base_ids->data + ID_BYTES * i;
        leaning.base = bases->data[i];
        LeaningMerge merge = {
            .frames = (const u8 *const *)frames->data + i * experts,
            .sizes = frames->items + i * experts,
            .ids = (u8 *)ids->data + ID_BYTES * experts * i,
            .rows = rows->data,
            .sources = {.base = bases->data[i],
                        .items = items,
                        .plain = plain->data,
                        .count = experts,
                        .size = bytes / 2,
                        .float16 = call.integers[11] != 0},
            .terms = &terms,
            .start = ((u64 *)starts->data)[i],
        };
        ((u8 *)whole->data)[i] =
            merge_leaning(&leaning, verify, &merge, (u8 *)out->data + bytes * i,
                          (i64 *)nonfinite->data + (1 + experts) * i, (u8 *)out_ids->data + ID_BYTES * i);
    }
    Py_END_ALLOW_THREADS
    return end(&call, Py_NewRef(Py_None));
}

/* (block_bytes): bytes of a row */
static PyObject *py_merge_leaning_row(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "i")) return NULL;
    return end(&call, PyLong_FromLongLong(ROW_STRIDE(call.integers[0])));
}

PyMethodDef leaning_methods[] = {
    {"decode_leaning", py_decode_leaning, METH_VARARGS, NULL},
    {"merge_leaning", py_merge_leaning, METH_VARARGS, NULL},
    {"merge_leaning_row", py_merge_leaning_row, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
