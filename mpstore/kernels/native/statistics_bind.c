/* Bindings of statistics.c. */
#include "bind.h"
#include "statistics.h"

static bool fits(const Call *call) {
    const Array *arrays = call->arrays;
    const Arrays *bases = &call->lists[0], *experts = &call->lists[1];
    bool paired = bases->count == experts->count && bases->count > 0;
    for (i64 k = 0; paired && k < bases->count; k++) {
        Py_ssize_t item = bases->arrays[k].view.itemsize;
        paired = bases->items[k] == experts->items[k] && bases->items[k] <= CHUNK * arrays[1].items &&
                 (item == 2 || item == 4) && item == bases->arrays[0].view.itemsize &&
                 item == experts->arrays[k].view.itemsize;
    }
    return require(paired, "blocks of the same sizes and words, pair by pair") &&
           require(arrays[0].items == CHUNK && arrays[2].items == ALL_TABLES * TABLE &&
                       arrays[3].items == HOT && ((u16 *)arrays[3].data)[0] <= BINS &&
                       ((u16 *)arrays[3].data)[1] <= BINS, "signs, tables and hot bins") &&
           require(arrays[4].items == 3 * bases->count && arrays[5].items == LANES * bases->count &&
                       arrays[6].items == bases->count && arrays[7].items == bases->count &&
                       arrays[8].items == bases->count && arrays[9].items == BINS && arrays[10].items == BINS &&
                       arrays[11].items == BINS,
                   "a row for each block, and all bins");
}

static PyObject *py_observe_blocks(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "R0 R0 i r4 r8 w4 w2 w8 w1 w4 w8 w4 w2 w4 w4")) return NULL;
    if (!fits(&call)) return end(&call, NULL);
    Array *arrays = call.arrays;
    Arrays *bases = &call.lists[0], *experts = &call.lists[1];
    Block *blocks = PyMem_Malloc((size_t)bases->count * sizeof *blocks);
    if (blocks == NULL) return end(&call, PyErr_NoMemory());
    for (i64 k = 0; k < bases->count; k++)
        blocks[k] = (Block){.base = bases->data[k],
                            .expert = experts->data[k],
                            .size = bases->items[k],
                            .narrow = bases->arrays[k].view.itemsize == 2,
                            .difference = call.integers[0]};
    Rows rows = {arrays[4].data, arrays[5].data, arrays[6].data, arrays[7].data, arrays[8].data};
    i64 used = 0;
    UNLOCKED(used = observe_blocks(blocks, bases->count, arrays[0].data, arrays[1].data, arrays[2].data,
                                   arrays[3].data, &rows, arrays[9].data, arrays[10].data, arrays[11].data));
    PyMem_Free(blocks);
    return end(&call, PyLong_FromLongLong(used));
}

PyMethodDef statistics_methods[] = {
    {"observe_blocks", py_observe_blocks, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
