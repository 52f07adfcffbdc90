/* Bindings of merge.c, and how Terms are taken. */
#include "terms_bind.h"

bool take_terms(const Call *call, int first, int flag, i64 count, Terms *out) {
    const Array *columns = call->arrays + first;
    const i64 *flags = call->integers + flag;
    for (int i = 0; i < TERMS_ARRAYS; i++)
        if (!require(columns[i].items == count, "a row of terms for each delta")) return false;
    bool fits = count <= MOST_DELTAS && 0 <= flags[3] && flags[3] < 29;
    if (!require(fits, "up to 64 deltas, and 0 to 28 spare bits")) return false;
    *out = (Terms){
        .count = count,
        .weight = columns[0].data,
        .scale = columns[1].data,
        .low = columns[2].data,
        .high = columns[3].data,
        .key = columns[4].data,
        .keep = columns[5].data,
        .exact = columns[6].data,
        .random = flags[0] != 0,
        .elect = flags[1] != 0,
        .normalize = flags[2] != 0,
        .spare = flags[3],
        .divisor = (float)call->floats[0],
        .factor = (float)call->floats[1],
        .base_scale = (float)call->floats[2],
    };
    return true;
}

static PyObject *py_merge_combine(PyObject *module, PyObject *args) {
    Call call;
    Terms terms;
    if (!begin(&call, args, "r4 R4 " TERMS_PATTERN " u w4")) return NULL;
    Array *base = &call.arrays[0], *out = &call.arrays[1 + TERMS_ARRAYS];
    Arrays *deltas = &call.lists[0];
    bool fits = base->items == out->items && all_have(deltas, base->items);
    if (!require(fits, "float32 arrays of one length")) return end(&call, NULL);
    if (!take_terms(&call, 1, 0, deltas->count, &terms)) return end(&call, NULL);
    const float *const *rows = (const float *const *)deltas->data;
    UNLOCKED(merge_combine(base->data, rows, &terms, call.words[0], base->items, out->data));
    return end(&call, Py_NewRef(Py_None));
}

PyMethodDef merge_methods[] = {
    {"merge_combine", py_merge_combine, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
