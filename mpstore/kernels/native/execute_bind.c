/* Bindings of execute.c. */
#include "bind.h"
#include "execute.h"

static PyObject *py_widen_bf16(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r2 w4")) return NULL;
    Array *words = &call.arrays[0], *out = &call.arrays[1];
    if (!require(words->items == out->items, "one value a word")) return end(&call, NULL);
    UNLOCKED(widen_bf16(words->data, words->items, out->data));
    return end(&call, Py_NewRef(Py_None));
}

static PyObject *py_widen_f16(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r2 w4")) return NULL;
    Array *words = &call.arrays[0], *out = &call.arrays[1];
    if (!require(words->items == out->items, "one value a word")) return end(&call, NULL);
    UNLOCKED(widen_f16(words->data, words->items, out->data));
    return end(&call, Py_NewRef(Py_None));
}

static PyObject *py_count_nonfinite(PyObject *module, PyObject *args) {
    Call call;
    i64 found = 0;
    if (!begin(&call, args, "r4")) return NULL;
    UNLOCKED(found = count_nonfinite(call.arrays[0].data, call.arrays[0].items));
    return end(&call, PyLong_FromLongLong(found));
}

/* The functions of (values, base, out) that count what is not finite. */
#define PAIRED(name, pattern)                                                                      \
    static PyObject *py_##name(PyObject *module, PyObject *args) {                                 \
        Call call;                                                                                 \
        i64 found = 0;                                                                             \
        if (!begin(&call, args, pattern)) return NULL;                                             \
        Array *values = &call.arrays[0], *base = &call.arrays[1], *out = &call.arrays[2];          \
        bool fits = values->items == base->items && values->items == out->items;                   \
        if (!require(fits, "values, base and out of one length")) return end(&call, NULL);         \
        UNLOCKED(found = name(values->data, base->data, values->items, out->data));                \
        return end(&call, PyLong_FromLongLong(found));                                             \
    }

PAIRED(difference, "r4 r4 w4")
PAIRED(difference_bf16, "r2 r4 w4")
PAIRED(difference_f16, "r2 r4 w4")
PAIRED(settle, "r4 r4 w4")
PAIRED(narrow_bf16, "r4 r4 w2")
PAIRED(narrow_f16, "r4 r4 w2")

#define HIGHEST ((i64)1 << 31)

static PyObject *py_count_magnitudes(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r4 i i w4")) return NULL;
    Array *delta = &call.arrays[0], *counts = &call.arrays[1];
    i64 low = call.integers[0], shift = call.integers[1];
    bool fits = 0 <= low && low <= HIGHEST && 0 <= shift && shift < 32;
    if (!require(fits, "low in 0 .. 2^31, shift in 0 .. 31")) return end(&call, NULL);
    UNLOCKED(count_magnitudes(delta->data, delta->items, low, (int)shift, counts->data, counts->items));
    return end(&call, Py_NewRef(Py_None));
}

static PyObject *py_collect_magnitudes(PyObject *module, PyObject *args) {
    Call call;
    i64 found = 0;
    if (!begin(&call, args, "r4 i i w4")) return NULL;
    Array *delta = &call.arrays[0], *out = &call.arrays[1];
    i64 low = call.integers[0], high = call.integers[1];
    bool fits = 0 <= low && high <= HIGHEST && out->items >= delta->items;
    if (!require(fits, "0 <= low, high <= 2^31, and room for all patterns")) return end(&call, NULL);
    UNLOCKED(found = collect_magnitudes(delta->data, delta->items, low, high, out->data));
    return end(&call, PyLong_FromLongLong(found));
}

static PyObject *py_dot_chunks(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r4 r4 w8")) return NULL;
    Array *a = &call.arrays[0], *b = &call.arrays[1], *out = &call.arrays[2];
    bool fits = a->items == b->items && out->items == (a->items + DOT_CHUNK - 1) / DOT_CHUNK;
    if (!require(fits, "two arrays of one length, and a sum for each 64 elements")) return end(&call, NULL);
    UNLOCKED(dot_chunks(a->data, b->data, a->items, out->data));
    return end(&call, Py_NewRef(Py_None));
}

PyMethodDef execute_methods[] = {
    {"widen_bf16", py_widen_bf16, METH_VARARGS, NULL},
    {"widen_f16", py_widen_f16, METH_VARARGS, NULL},
    {"count_nonfinite", py_count_nonfinite, METH_VARARGS, NULL},
    {"difference", py_difference, METH_VARARGS, NULL},
    {"difference_bf16", py_difference_bf16, METH_VARARGS, NULL},
    {"difference_f16", py_difference_f16, METH_VARARGS, NULL},
    {"count_magnitudes", py_count_magnitudes, METH_VARARGS, NULL},
    {"collect_magnitudes", py_collect_magnitudes, METH_VARARGS, NULL},
    {"dot_chunks", py_dot_chunks, METH_VARARGS, NULL},
    {"settle", py_settle, METH_VARARGS, NULL},
    {"narrow_bf16", py_narrow_bf16, METH_VARARGS, NULL},
    {"narrow_f16", py_narrow_f16, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
