/* Bindings of rans_delta.c and rans_planes.c: several blocks a call, lists of arrays of bytes. */
#include "bind.h"
#include "rans.h"

static bool fits_width(i64 word_bytes) {
    return require(word_bytes == 1 || word_bytes == 2 || word_bytes == 4 || word_bytes == 8,
                   "words have 1, 2, 4 or 8 bytes");
}

static PyObject *py_rans_scratch_bytes(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "i i")) return NULL;
    return end(&call, PyLong_FromLongLong(rans_scratch_bytes(call.integers[0], call.integers[1])));
}

static PyObject *py_rans_delta_bytes(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "i i")) return NULL;
    return end(&call, PyLong_FromLongLong(rans_delta_bytes(call.integers[0], call.integers[1])));
}

/* The shape of words: bytes of a word, sign and magnitude, mask, shift, rows, symbols. */
static bool fits_shape(const Call *call, RansShape *shape) {
    const i64 *given = call->integers;
    *shape = (RansShape){.bytes = given[0], .sign_magnitude = given[1], .shift = given[2], .rows = given[3],
                         .symbols = given[4], .mask = call->words[0]};
    return fits_width(shape->bytes) &&
           require(shape->symbols == 16 + 2 * (8 * shape->bytes - 4), "tokens of all distances of this width") &&
           require(shape->shift >= 0 && shape->shift < 8 * shape->bytes && shape->rows > 0 &&
                       shape->rows <= RANS_MOST_ROWS,
                   "keys of the words, at most 32 of them told apart") &&
           require(shape->mask >> (8 * shape->bytes - 1) == 0 && shape->mask >> shape->shift <= UINT16_MAX,
                   "keys without the sign, of 16 bits at most");
}

/* Blocks of at least one word, each with one of the same size in the other list, and scratch for the largest. */
static bool fits_blocks(const Arrays *blocks, const Arrays *bases, i64 word_bytes, const Array *scratch) {
    i64 largest = 0;
    bool fits = bases == NULL || blocks->count == bases->count;
    for (i64 i = 0; fits && i < blocks->count; i++) {
        fits = blocks->items[i] > 0 && blocks->items[i] % word_bytes == 0;
        fits = fits && (bases == NULL || blocks->items[i] == bases->items[i]);
        largest = most(largest, blocks->items[i]);
    }
    return require(fits, "blocks of whole words, and bases of the same sizes") &&
           require(scratch->items >= rans_scratch_bytes(largest / word_bytes, word_bytes), "scratch for each block");
}

static void encode_deltas(const RansShape *shape, const Arrays *blocks, const Arrays *bases, const RansScales *scales,
                          void *scratch, u8 *out, i64 *lengths) {
    for (i64 i = 0; i < blocks->count; i++) {
        i64 count = blocks->items[i] / shape->bytes;
        lengths[i] = rans_encode_delta(shape, blocks->data[i], bases->data[i], count, scales, scratch, out);
        out += most(lengths[i], 0);
    }
}

static PyObject *py_encode_deltas(PyObject *module, PyObject *args) {
    Call call;
    RansShape shape;
    if (!begin(&call, args, "R1 R1 i i i i i u r8 r8 w1 w1 w8")) return NULL;
    Arrays *blocks = &call.lists[0], *bases = &call.lists[1];
    Array *logs = call.arrays, *edges = logs + 1, *scratch = logs + 2, *out = logs + 3, *lengths = logs + 4;
    RansScales scales = {logs->data, edges->data, edges->items};
    i64 room = 0;
    if (!fits_shape(&call, &shape) || !fits_blocks(blocks, bases, shape.bytes, scratch)) return end(&call, NULL);
    for (i64 i = 0; i < blocks->count; i++) room += rans_delta_bytes(blocks->items[i] / shape.bytes, shape.bytes);
    if (!require(out->items >= room && lengths->items == blocks->count, "room for all blocks and their lengths") ||
        !require(logs->items == 256 && edges->items < 255, "256 logarithms, and the edges of weight codes"))
        return end(&call, NULL);
    UNLOCKED(encode_deltas(&shape, blocks, bases, &scales, scratch->data, out->data, lengths->data));
    return end(&call, Py_NewRef(Py_None));
}

static void decode_deltas(const RansShape *shape, const Arrays *segments, const Arrays *bases, const Arrays *outs,
                          void *scratch, u8 *whole) {
    for (i64 i = 0; i < outs->count; i++)
        whole[i] = rans_decode_delta(shape, segments->data[i], segments->items[i], bases->data[i],
                                     outs->items[i] / shape->bytes, scratch, outs->data[i]);
}

static PyObject *py_decode_deltas(PyObject *module, PyObject *args) {
    Call call;
    RansShape shape;
    if (!begin(&call, args, "R1 R1 W1 i i i i i u w1 w1")) return NULL;
    Arrays *segments = call.lists, *bases = segments + 1, *outs = segments + 2;
    Array *scratch = call.arrays, *whole = scratch + 1;
    if (!fits_shape(&call, &shape) || !fits_blocks(outs, bases, shape.bytes, scratch) ||
        !require(segments->count == outs->count && whole->items == outs->count, "one segment and answer a block"))
        return end(&call, NULL);
    UNLOCKED(decode_deltas(&shape, segments, bases, outs, scratch->data, whole->data));
    return end(&call, Py_NewRef(Py_None));
}

static void decode_planes(i64 word_bytes, bool rotated, const Arrays *planes, const Arrays *outs, void *scratch,
                          u8 *whole) {
    for (i64 i = 0; i < outs->count; i++) {
        i64 first = i * word_bytes, count = outs->items[i] / word_bytes;
        whole[i] = rans_decode_planes(planes->data + first, planes->items + first, word_bytes, rotated, count, scratch,
                                      outs->data[i]);
    }
}

static PyObject *py_decode_planes(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "R1 W1 i i w1 w1")) return NULL;
    Arrays *planes = call.lists, *outs = planes + 1;
    Array *scratch = call.arrays, *whole = scratch + 1;
    i64 word_bytes = call.integers[0];
    if (!fits_width(word_bytes) || !fits_blocks(outs, NULL, word_bytes, scratch) ||
        !require(planes->count == outs->count * word_bytes && whole->items == outs->count,
                 "as many planes a block as a word has bytes, and one answer"))
        return end(&call, NULL);
    UNLOCKED(decode_planes(word_bytes, call.integers[1], planes, outs, scratch->data, whole->data));
    return end(&call, Py_NewRef(Py_None));
}

PyMethodDef rans_block_methods[] = {
    {"rans_scratch_bytes", py_rans_scratch_bytes, METH_VARARGS, NULL},
    {"rans_delta_bytes", py_rans_delta_bytes, METH_VARARGS, NULL},
    {"encode_deltas", py_encode_deltas, METH_VARARGS, NULL},
    {"decode_deltas", py_decode_deltas, METH_VARARGS, NULL},
    {"decode_planes", py_decode_planes, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
