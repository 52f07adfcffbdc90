/* Bindings of rice.c: several blocks a call. */
#include "bind.h"
#include "rice.h"

static RiceShape shape_of(const Call *call) {
    return (RiceShape){(int)call->integers[0], call->integers[1] != 0, call->words[0], (int)call->integers[2]};
}

static bool sound(const RiceShape *shape, const Arrays *blocks) {
    int word = shape->word_bytes;
    bool fits = (word == 1 || word == 2 || word == 4 || word == 8) && shape->shift >= 0 && shape->shift < 8 * word &&
                shape->mask >> shape->shift < 2048;
    for (i64 i = 0; fits && i < blocks->count; i++) fits = blocks->items[i] > 0 && blocks->items[i] % word == 0;
    return require(fits, "rice codes take blocks of whole words");
}

static bool same_sizes(const Arrays *a, const Arrays *b) {
    bool fits = a->count == b->count;
    for (i64 i = 0; fits && i < a->count; i++) fits = a->items[i] == b->items[i];
    return require(fits, "a block and its base have one size");
}

static PyObject *py_rice_room(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "i i")) return NULL;
    return end(&call, PyLong_FromLongLong(rice_room(call.integers[0], (int)call.integers[1])));
}

/* (words, bases, word_bytes, sign_magnitude, mask, shift, room, out, lengths): block i goes to where the blocks
   before it end; lengths[i] is -1 where it would not be smaller. */
static PyObject *py_rice_encode(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "R1 R1 i i u i w1 w1 w8")) return NULL;
    RiceShape shape = shape_of(&call);
    Arrays *blocks = &call.lists[0], *bases = &call.lists[1];
    Array *room = &call.arrays[0], *out = &call.arrays[1], *lengths = &call.arrays[2];
    if (!sound(&shape, blocks) || !same_sizes(blocks, bases)) return end(&call, NULL);
    if (!require(room->items >= rice_room(largest_of(blocks) / shape.word_bytes, shape.word_bytes) && out->items >= total_of(blocks) &&
                     lengths->items == blocks->count,
                 "not enough room for rice codes"))
        return end(&call, NULL);
    u8 *to = out->data;
    Py_BEGIN_ALLOW_THREADS
    for (i64 i = 0; i < blocks->count; to += blocks->items[i++])
        ((i64 *)lengths->data)[i] = rice_encode(&shape, blocks->data[i], bases->data[i],
                                                blocks->items[i] / shape.word_bytes, room->data, to);
    Py_END_ALLOW_THREADS
    return end(&call, Py_NewRef(Py_None));
}

/* (segments, bases, outs, word_bytes, sign_magnitude, mask, shift, whole): whole[i] is 1 where block i is. */
static PyObject *py_rice_decode(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "R1 R1 W1 i i u i w1")) return NULL;
    RiceShape shape = shape_of(&call);
    Arrays *segments = &call.lists[0], *bases = &call.lists[1], *outs = &call.lists[2];
    Array *whole = &call.arrays[0];
    if (!sound(&shape, outs) || !same_sizes(outs, bases)) return end(&call, NULL);
    if (!require(segments->count == outs->count && whole->items == outs->count, "a segment for each block"))
        return end(&call, NULL);
    Py_BEGIN_ALLOW_THREADS
    for (i64 i = 0; i < outs->count; i++)
        ((u8 *)whole->data)[i] = rice_decode(&shape, segments->data[i], segments->items[i], bases->data[i],
                                             outs->items[i] / shape.word_bytes, outs->data[i]);
    Py_END_ALLOW_THREADS
    return end(&call, Py_NewRef(Py_None));
}

PyMethodDef rice_methods[] = {
    {"rice_room", py_rice_room, METH_VARARGS, NULL},
    {"rice_encode", py_rice_encode, METH_VARARGS, NULL},
    {"rice_decode", py_rice_decode, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
