/* Bindings of adapter.c. */
#include "bind.h"
#include "adapter.h"

static PyObject *py_product_run(PyObject *module, PyObject *args) {
    Call call;
    i64 bad = 0;
    if (!begin(&call, args, "r4 r4 i i d i w4")) return NULL;
    Array *left = &call.arrays[0], *right = &call.arrays[1], *out = &call.arrays[2];
    i64 rank = call.integers[0], columns = call.integers[1], start = call.integers[2];
    if (!require(rank > 0 && columns >= 0 && right->items / rank == columns && right->items % rank == 0,
                 "right has a row for each of the rank") ||
        !require(left->items % rank == 0 && start >= 0 && out->items <= left->items / rank * columns - start,
                 "a run inside of the product"))
        return end(&call, NULL);
    UNLOCKED(bad = product_run(left->data, right->data, rank, columns, call.floats[0], start, out->items,
                               out->data));
    return end(&call, PyLong_FromLongLong(bad));
}

PyMethodDef adapter_methods[] = {
    {"product_run", py_product_run, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
