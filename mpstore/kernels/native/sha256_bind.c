/* Bindings of sha256.c; none in variants that do not have it. */
#include "bind.h"
#include "sha256.h"

#if MP_SHA256
static PyObject *py_sha256_lanes(PyObject *module, PyObject *nothing) { return PyLong_FromLong(sha256_lanes()); }

static bool runs_here(void) { return require(sha256_lanes() > 1, "this processor leaves SHA-256 to hashlib"); }

/* (state, bytes): whole blocks. */
static PyObject *py_sha256_blocks(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "w4 r1")) return NULL;
    Array *state = &call.arrays[0], *bytes = &call.arrays[1];
    if (!runs_here() || !require(state->items == 8 && bytes->items % SHA256_BLOCK == 0, "eight words of state, whole blocks"))
        return end(&call, NULL);
    UNLOCKED(sha256_blocks(state->data, bytes->data, bytes->items / SHA256_BLOCK));
    return end(&call, Py_NewRef(Py_None));
}

/* (states, pieces): whole blocks of several hashes. */
static PyObject *py_sha256_together(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "W4 R1")) return NULL;
    Arrays *states = &call.lists[0], *pieces = &call.lists[1];
    bool fits = states->count == pieces->count && all_have(states, 8);
    for (i64 i = 0; fits && i < pieces->count; i++) fits = pieces->items[i] % SHA256_BLOCK == 0;
    if (!runs_here() || !require(fits, "eight words of state and whole blocks for each")) return end(&call, NULL);
    for (i64 i = 0; i < pieces->count; i++) pieces->items[i] /= SHA256_BLOCK;
    UNLOCKED(sha256_together((u32 **)states->data, (const u8 **)pieces->data, pieces->items, states->count));
    return end(&call, Py_NewRef(Py_None));
}
#endif

PyMethodDef sha256_methods[] = {
#if MP_SHA256
    {"sha256_lanes", py_sha256_lanes, METH_NOARGS, NULL},
    {"sha256_blocks", py_sha256_blocks, METH_VARARGS, NULL},
    {"sha256_together", py_sha256_together, METH_VARARGS, NULL},
#endif
    {NULL, NULL, 0, NULL},
};
