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

static PyObject *py_count_nonfinite(PyObject *module, PyObject *args) {
    Call call;
    i64 found = 0;
    if (!begin(&call, args, "r4")) return NULL;
    UNLOCKED(found = count_nonfinite(call.arrays[0].data, call.arrays[0].items));
    return end(&call, PyLong_FromLongLong(found));
}

PyMethodDef execute_methods[] = {
    {"widen_bf16", py_widen_bf16, METH_VARARGS, NULL},
    {"count_nonfinite", py_count_nonfinite, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
