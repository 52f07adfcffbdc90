/* Bindings of ranks.c. */
#include "bind.h"
#include "ranks.h"

static PyObject *py_falling_words(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r8 i w8")) return NULL;
    Array *values = &call.arrays[0], *words = &call.arrays[1];
    i64 bits = call.integers[0];
    if (!require(words->items == values->items && bits > 0 && bits < 63 && values->items <= (i64)1 << bits, "as many"))
        return end(&call, NULL);
    UNLOCKED(falling_words(values->data, values->items, bits, words->data));
    return end(&call, Py_NewRef(Py_None));
}

static PyObject *py_enter_ranks(PyObject *module, PyObject *args) {
    Call call;
    i64 ties = 0;
    if (!begin(&call, args, "w8 i w8 w8 w8")) return NULL;
    Array *a = call.arrays;
    i64 bits = call.integers[0], items = a[0].items;
    if (!require(bits > 0 && bits < 63 && a[1].items == items && a[2].items == items && a[3].items == items, "as many"))
        return end(&call, NULL);
    UNLOCKED(ties = enter_ranks(a[0].data, items, bits, a[1].data, a[2].data, a[3].data));
    return end(&call, PyLong_FromLongLong(ties));
}

PyMethodDef ranks_methods[] = {
    {"falling_words", py_falling_words, METH_VARARGS, NULL},
    {"enter_ranks", py_enter_ranks, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
