/* Bindings of tiers_encode.c and tiers_decode.c: several blocks a call. */
#include "bind.h"
#include "tiers.h"

static bool sound(const Arrays *blocks, const Arrays *bases) {
    bool fits = blocks->count == bases->count;
    for (i64 i = 0; fits && i < blocks->count; i++)
        fits = blocks->items[i] > 0 && blocks->items[i] % 2 == 0 && blocks->items[i] == bases->items[i];
    return require(fits, "tiers take blocks of whole words of 16 bits, each with a base of its size");
}

static PyObject *py_tiers_room(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "i")) return NULL;
    return end(&call, PyLong_FromLongLong(tiers_room(call.integers[0])));
}

/* (words, bases, sign_magnitude, room, out, lengths): block i goes to where the blocks before it end; lengths[i] is -1
   where it would not be smaller. */
static PyObject *py_tiers_encode(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "R1 R1 i w1 w1 w8")) return NULL;
    Arrays *blocks = &call.lists[0], *bases = &call.lists[1];
    Array *room = &call.arrays[0], *out = &call.arrays[1], *lengths = &call.arrays[2];
    if (!sound(blocks, bases)) return end(&call, NULL);
    if (!require(room->items >= tiers_room(largest_of(blocks) / 2) && out->items >= total_of(blocks) &&
                     lengths->items == blocks->count,
                 "not enough room for tiers"))
        return end(&call, NULL);
    u8 *to = out->data;
    Py_BEGIN_ALLOW_THREADS
    for (i64 i = 0; i < blocks->count; to += blocks->items[i++])
        ((i64 *)lengths->data)[i] = tiers_encode(call.integers[0] != 0, blocks->data[i], bases->data[i],
                                                 blocks->items[i] / 2, room->data, to);
    Py_END_ALLOW_THREADS
    return end(&call, Py_NewRef(Py_None));
}

/* (segments, bases, outs, sign_magnitude, whole): whole[i] is 1 where block i is. */
static PyObject *py_tiers_decode(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "R1 R1 W1 i w1")) return NULL;
    Arrays *segments = &call.lists[0], *bases = &call.lists[1], *outs = &call.lists[2];
    Array *whole = &call.arrays[0];
    if (!sound(outs, bases)) return end(&call, NULL);
    if (!require(segments->count == outs->count && whole->items == outs->count, "a segment for each block"))
        return end(&call, NULL);
    Py_BEGIN_ALLOW_THREADS
    for (i64 i = 0; i < outs->count; i++)
        ((u8 *)whole->data)[i] = tiers_decode(call.integers[0] != 0, segments->data[i], segments->items[i],
                                              bases->data[i], outs->items[i] / 2, outs->data[i]);
    Py_END_ALLOW_THREADS
    return end(&call, Py_NewRef(Py_None));
}

/* (segments, bases, words, sign_magnitude, same): same[i] is 1 where segment i decodes to words i. */
static PyObject *py_tiers_hold(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "R1 R1 R1 i w1")) return NULL;
    Arrays *segments = &call.lists[0], *bases = &call.lists[1], *blocks = &call.lists[2];
    Array *same = &call.arrays[0];
    if (!sound(blocks, bases)) return end(&call, NULL);
    if (!require(segments->count == blocks->count && same->items == blocks->count, "a segment for each block"))
        return end(&call, NULL);
    Py_BEGIN_ALLOW_THREADS
    for (i64 i = 0; i < blocks->count; i++)
        ((u8 *)same->data)[i] = tiers_hold(call.integers[0] != 0, segments->data[i], segments->items[i],
                                           bases->data[i], blocks->items[i] / 2, blocks->data[i]);
    Py_END_ALLOW_THREADS
    return end(&call, Py_NewRef(Py_None));
}

PyMethodDef tiers_methods[] = {
    {"tiers_room", py_tiers_room, METH_VARARGS, NULL},
    {"tiers_encode", py_tiers_encode, METH_VARARGS, NULL},
    {"tiers_hold", py_tiers_hold, METH_VARARGS, NULL},
    {"tiers_decode", py_tiers_decode, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
