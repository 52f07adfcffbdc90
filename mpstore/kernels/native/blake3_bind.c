/* Bindings of blake3.c. */
#include "bind.h"
#include "blake3.h"

/* (message, room, out) */
static PyObject *py_blake3_hash(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r1 w1 w1")) return NULL;
    Array *message = &call.arrays[0], *room = &call.arrays[1], *out = &call.arrays[2];
    if (!require(room->items >= blake3_room(message->items) && out->items == BLAKE3_BYTES, "room, and 32 bytes"))
        return end(&call, NULL);
    UNLOCKED(blake3_hash(message->data, message->items, room->data, out->data));
    return end(&call, Py_NewRef(Py_None));
}

/* (messages, room, out): the digests one after the other */
static PyObject *py_blake3_hash_many(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "R1 w1 w1")) return NULL;
    Arrays *messages = &call.lists[0];
    Array *room = &call.arrays[0], *out = &call.arrays[1];
    if (!require(room->items >= blake3_room(largest_of(messages)) && out->items == BLAKE3_BYTES * messages->count,
                 "room, and 32 bytes for each message"))
        return end(&call, NULL);
    Py_BEGIN_ALLOW_THREADS
    for (i64 i = 0; i < messages->count; i++)
        blake3_hash(messages->data[i], messages->items[i], room->data, (u8 *)out->data + BLAKE3_BYTES * i);
    Py_END_ALLOW_THREADS
    return end(&call, Py_NewRef(Py_None));
}

/* (size): bytes of room */
static PyObject *py_blake3_room(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "i")) return NULL;
    if (!require(call.integers[0] >= 0, "a size")) return end(&call, NULL);
    return end(&call, PyLong_FromLongLong(blake3_room(call.integers[0])));
}

PyMethodDef blake3_methods[] = {
    {"blake3_hash", py_blake3_hash, METH_VARARGS, NULL},
    {"blake3_hash_many", py_blake3_hash_many, METH_VARARGS, NULL},
    {"blake3_room", py_blake3_room, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
