/* Bindings of prefix.c: several blocks a call. */
#include "bind.h"
#include "prefix.h"

static bool sound(const PrefixShape *shape, const Arrays *blocks) {
    int word = shape->word_bytes, rest = shape->rest_bits;
    bool fits = (word == 1 || word == 2 || word == 4 || word == 8) && rest >= 8 * word - 8 && rest > 0 &&
                rest < 8 * word;
    for (i64 i = 0; fits && i < blocks->count; i++) fits = blocks->items[i] > 0 && blocks->items[i] % word == 0;
    return require(fits, "prefix codes take blocks of whole words");
}

static PyObject *py_prefix_room(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "i")) return NULL;
    return end(&call, PyLong_FromLongLong(prefix_room(call.integers[0])));
}

static PyObject *py_prefix_most(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "i i i")) return NULL;
    PrefixShape shape = {(int)call.integers[0], (int)call.integers[1]};
    return end(&call, PyLong_FromLongLong(prefix_most(&shape, call.integers[2])));
}

/* (words, word_bytes, rest_bits, room, out, stride, lengths, promising): block i goes to i * stride. */
static PyObject *py_prefix_split(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "R1 i i w1 w1 i w8 w8")) return NULL;
    PrefixShape shape = {(int)call.integers[0], (int)call.integers[1]};
    Arrays *blocks = &call.lists[0];
    Array *room = &call.arrays[0], *out = &call.arrays[1], *lengths = &call.arrays[2], *promising = &call.arrays[3];
    i64 stride = call.integers[2], largest = 0;
    if (!sound(&shape, blocks)) return end(&call, NULL);
    for (i64 i = 0; i < blocks->count; i++) largest = most(largest, blocks->items[i] / shape.word_bytes);
    if (!require(room->items >= prefix_room(largest) && stride >= prefix_most(&shape, largest) &&
                     out->items >= stride * blocks->count && lengths->items == blocks->count &&
                     promising->items == blocks->count,
                 "not enough room for prefix codes"))
        return end(&call, NULL);
    Py_BEGIN_ALLOW_THREADS
    for (i64 i = 0; i < blocks->count; i++)
        ((i64 *)lengths->data)[i] =
            prefix_split(&shape, blocks->data[i], blocks->items[i] / shape.word_bytes, room->data,
                         (u8 *)out->data + i * stride, &((u64 *)promising->data)[i]);
    Py_END_ALLOW_THREADS
    return end(&call, Py_NewRef(Py_None));
}

/* (segments, planes, odd, outs, word_bytes, rest_bits, room, whole): `planes` has those of all blocks in turn. */
static PyObject *py_prefix_join(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "R1 R1 R1 W1 i i w1 w1")) return NULL;
    PrefixShape shape = {(int)call.integers[0], (int)call.integers[1]};
    Arrays *segments = &call.lists[0], *planes = &call.lists[1], *odd = &call.lists[2], *outs = &call.lists[3];
    Array *room = &call.arrays[0], *whole = &call.arrays[1];
    int each = shape.rest_bits / 8;
    if (!sound(&shape, outs)) return end(&call, NULL);
    bool fits = segments->count == outs->count && odd->count == outs->count && whole->items == outs->count &&
                planes->count == outs->count * each;
    for (i64 i = 0; fits && i < outs->count; i++) {
        i64 words = outs->items[i] / shape.word_bytes;
        fits = room->items >= words && odd->items[i] == shape.rest_bits % 8 * ((words + 7) / 8);
        for (int p = 0; fits && p < each; p++) fits = planes->items[i * each + p] == words;
    }
    if (!require(fits, "planes of other lengths than their block")) return end(&call, NULL);
    Py_BEGIN_ALLOW_THREADS
    for (i64 i = 0; i < outs->count; i++)
        ((u8 *)whole->data)[i] =
            prefix_join(&shape, segments->data[i], segments->items[i], (u8 *const *)planes->data + i * each,
                        odd->data[i], outs->items[i] / shape.word_bytes, room->data, outs->data[i]);
    Py_END_ALLOW_THREADS
    return end(&call, Py_NewRef(Py_None));
}

PyMethodDef prefix_methods[] = {
    {"prefix_room", py_prefix_room, METH_VARARGS, NULL},
    {"prefix_most", py_prefix_most, METH_VARARGS, NULL},
    {"prefix_split", py_prefix_split, METH_VARARGS, NULL},
    {"prefix_join", py_prefix_join, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
