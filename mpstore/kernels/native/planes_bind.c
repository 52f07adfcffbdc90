/* Bindings of planes.c. */
#include "bind.h"
#include "planes.h"

static bool fits_planes(const Array *words, const Array *planes) {
    Py_ssize_t width = words->view.itemsize;
    return require(width == 1 || width == 2 || width == 4 || width == 8, "words have 1, 2, 4 or 8 bytes") &&
           require(planes->items == words->items * width, "one byte a plane for each word");
}

static PyObject *py_split_planes(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r0 i w1")) return NULL;
    Array *words = &call.arrays[0], *planes = &call.arrays[1];
    if (!fits_planes(words, planes)) return end(&call, NULL);
    UNLOCKED(split_planes(words->data, words->view.itemsize, words->items, call.integers[0], planes->data));
    return end(&call, Py_NewRef(Py_None));
}

static PyObject *py_join_planes(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r1 i w0")) return NULL;
    Array *planes = &call.arrays[0], *out = &call.arrays[1];
    if (!fits_planes(out, planes)) return end(&call, NULL);
    UNLOCKED(join_planes(planes->data, out->view.itemsize, out->items, call.integers[0], out->data));
    return end(&call, Py_NewRef(Py_None));
}

static PyObject *py_count_bytes(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r1 w4")) return NULL;
    Array *values = &call.arrays[0], *counts = &call.arrays[1];
    if (!require(counts->items == 256, "one count for each byte value")) return end(&call, NULL);
    UNLOCKED(count_bytes(values->data, values->items, counts->data));
    return end(&call, Py_NewRef(Py_None));
}

static bool fits_fine(const Array *packed, i64 size) {
    return require(packed->items == (size + 1) / 2 + (size + 3) / 4, "six bits for each element");
}

static PyObject *py_split_fine(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r1 r1 r1 w1 w1")) return NULL;
    Array *top = call.arrays, *below = top + 1, *ranks = top + 2, *symbols = top + 3, *packed = top + 4;
    i64 size = top->items;
    if (!require(below->items == size && symbols->items == size && ranks->items == 256,
                 "planes of one length, and 256 ranks") ||
        !fits_fine(packed, size))
        return end(&call, NULL);
    UNLOCKED(split_fine(top->data, below->data, size, ranks->data, symbols->data, packed->data));
    return end(&call, Py_NewRef(Py_None));
}

static PyObject *py_join_fine(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r1 r1 r1 w1 w1")) return NULL;
    Array *symbols = call.arrays, *values = symbols + 1, *packed = symbols + 2;
    Array *top = symbols + 3, *below = symbols + 4;
    i64 size = top->items;
    if (!require(below->items == size && symbols->items == size && values->items == 64,
                 "planes of one length, and 64 values") ||
        !fits_fine(packed, size))
        return end(&call, NULL);
    UNLOCKED(join_fine(symbols->data, size, values->data, packed->data, top->data, below->data));
    return end(&call, Py_NewRef(Py_None));
}

static PyObject *py_same(PyObject *module, PyObject *args) {
    Call call;
    bool same = true;
    if (!begin(&call, args, "R1 R1")) return NULL;
    Arrays *left = &call.lists[0], *right = &call.lists[1];
    bool paired = left->count == right->count;
    for (i64 i = 0; paired && i < left->count; i++) paired = left->items[i] == right->items[i];
    if (!require(paired, "blocks of the same sizes, pair by pair")) return end(&call, NULL);
    UNLOCKED(for (i64 i = 0; same && i < left->count; i++)
                 same = same_bytes(left->data[i], right->data[i], left->items[i]));
    return end(&call, PyBool_FromLong(same));
}

PyMethodDef planes_methods[] = {
    {"split_planes", py_split_planes, METH_VARARGS, NULL},
    {"join_planes", py_join_planes, METH_VARARGS, NULL},
    {"count_bytes", py_count_bytes, METH_VARARGS, NULL},
    {"split_fine", py_split_fine, METH_VARARGS, NULL},
    {"join_fine", py_join_fine, METH_VARARGS, NULL},
    {"same", py_same, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
