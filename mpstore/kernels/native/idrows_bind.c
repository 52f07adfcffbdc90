/* Bindings of idrows.c. */
#include "bind.h"
#include "idrows.h"

#define ID_BYTES 32
#define MOST_BITS 28

static PyObject *py_fill_starts(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r8 i w4")) return NULL;
    Array *prefix = &call.arrays[0], *starts = &call.arrays[1];
    i64 bits = call.integers[0];
    Table table = {prefix->data, NULL, prefix->items, bits, starts->data};
    if (!require(bits >= 0 && bits <= MOST_BITS && starts->items == ((i64)1 << bits) + 1, "a start a bucket") ||
        !require(prefix->items < (i64)1 << 32, "fewer rows"))
        return end(&call, NULL);
    UNLOCKED(fill_starts(&table));
    return end(&call, Py_NewRef(Py_None));
}

static PyObject *py_find_rows(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r8 r1 r4 i r1 w8")) return NULL;
    Array *prefix = &call.arrays[0], *suffix = &call.arrays[1], *starts = &call.arrays[2];
    Array *ids = &call.arrays[3], *found = &call.arrays[4];
    i64 bits = call.integers[0];
    Table table = {prefix->data, suffix->data, prefix->items, bits, starts->data};
    if (!require(bits >= 0 && bits <= MOST_BITS && starts->items == ((i64)1 << bits) + 1, "a start a bucket") ||
        !require(suffix->items == (ID_BYTES - 8) * prefix->items && ids->items == ID_BYTES * found->items,
                 "ids of 32 bytes"))
        return end(&call, NULL);
    UNLOCKED(find_rows(&table, ids->data, found->items, found->data));
    return end(&call, Py_NewRef(Py_None));
}

/* Few ids: sooner found than the interpreter lock is had again, so it is kept. */
static PyObject *py_find_few_rows(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r8 r1 r1 w8")) return NULL;
    Array *prefix = &call.arrays[0], *suffix = &call.arrays[1], *ids = &call.arrays[2], *found = &call.arrays[3];
    Table table = {prefix->data, suffix->data, prefix->items, 0, NULL};
    if (!require(suffix->items == (ID_BYTES - 8) * prefix->items && ids->items == ID_BYTES * found->items,
                 "ids of 32 bytes"))
        return end(&call, NULL);
    find_few_rows(&table, ids->data, found->items, found->data);
    return end(&call, Py_NewRef(Py_None));
}

static PyObject *py_lean_elsewhere(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r4 r1 r8 r1 w1")) return NULL;
    Array *base_row = &call.arrays[0], *bases = &call.arrays[1], *rows = &call.arrays[2];
    Array *own = &call.arrays[3], *out = &call.arrays[4];
    const i64 *wanted = rows->data;
    bool fits = bases->items % ID_BYTES == 0 && own->items == ID_BYTES * rows->items && out->items == rows->items;
    for (i64 i = 0; fits && i < rows->items; i++) fits = wanted[i] >= 0 && wanted[i] < base_row->items;
    if (!require(fits, "rows that there are, and ids of 32 bytes")) return end(&call, NULL);
    UNLOCKED(lean_elsewhere(base_row->data, bases->data, bases->items / ID_BYTES, wanted, own->data, rows->items,
                            out->data));
    return end(&call, Py_NewRef(Py_None));
}

PyMethodDef idrows_methods[] = {
    {"fill_starts", py_fill_starts, METH_VARARGS, NULL},
    {"find_rows", py_find_rows, METH_VARARGS, NULL},
    {"find_few_rows", py_find_few_rows, METH_VARARGS, NULL},
    {"lean_elsewhere", py_lean_elsewhere, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
