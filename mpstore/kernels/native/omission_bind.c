/* Bindings of omission.c. */
#include "bind.h"
#include "omission.h"

static bool tensors_fit(const Array *tensor, const Array *cosines, i64 experts, i64 count) {
    const i32 *numbers = tensor->data;
    i64 tensors = cosines->items / most(experts * experts, 1);
    bool fit = tensor->items == count;
    for (i64 i = 0; fit && i < count; i++) fit = numbers[i] >= 0 && numbers[i] < tensors;
    return fit;
}

/* The first arguments of two functions: steps, error, experts, row_bits, piece. */
static bool reading(const Call *call, Reading *out, const Array *scratch) {
    const Array *steps = &call->arrays[0], *error = &call->arrays[1];
    i64 experts = call->integers[0], row_bits = call->integers[1], piece = call->integers[2];
    if (!require(experts > 0 && row_bits > 0 && row_bits < 32 && piece > 0, "experts, bits and blocks") ||
        !require(steps->items % experts == 0 && error->items == steps->items, "a row an expert") ||
        !require(scratch->items >= (piece + 2) * experts, "room for a piece"))
        return false;
    *out = (Reading){steps->data, error->data, experts, steps->items / experts, row_bits, piece};
    return true;
}

static PyObject *py_certified_drops(PyObject *module, PyObject *args) {
    Call call;
    Reading own;
    if (!begin(&call, args, "r8 r8 i i i r8 r8 r8 w8 w8")) return NULL;
    Array *a = call.arrays, *gains = &a[5];
    if (!reading(&call, &own, &a[6]) ||
        !require(a[2].items == own.count && a[3].items == own.count && a[4].items == own.count, "a term a block"))
        return end(&call, NULL);
    UNLOCKED(certified_drops(&own, a[2].data, a[3].data, a[4].data, gains->data, gains->items, a[6].data));
    return end(&call, Py_NewRef(Py_None));
}

static PyObject *py_expected_rises(PyObject *module, PyObject *args) {
    Call call;
    Reading own;
    if (!begin(&call, args, "r8 r8 i i i r8 r4 w8 w8")) return NULL;
    Array *a = call.arrays, *gains = &a[4];
    if (!reading(&call, &own, &a[5]) ||
        !require(tensors_fit(&a[3], &a[2], own.experts, own.count), "cosines of every tensor"))
        return end(&call, NULL);
    UNLOCKED(expected_rises(&own, a[2].data, a[3].data, gains->data, gains->items, a[5].data));
    return end(&call, Py_NewRef(Py_None));
}

static PyObject *py_angled_squares(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r8 r8 r4 i w8")) return NULL;
    Array *sizes = &call.arrays[0], *cosines = &call.arrays[1], *tensor = &call.arrays[2], *squares = &call.arrays[3];
    i64 experts = call.integers[0], count = squares->items;
    if (!require(experts >= 0 && sizes->items == experts * count, "a row an expert") ||
        !require(tensors_fit(tensor, cosines, experts, count), "cosines of every tensor"))
        return end(&call, NULL);
    UNLOCKED(angled_squares(sizes->data, cosines->data, tensor->data, experts, count, squares->data));
    return end(&call, Py_NewRef(Py_None));
}

static PyObject *py_unit_costs(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r8 r8 w8")) return NULL;
    Array *unit = &call.arrays[0], *bytes = &call.arrays[1], *cost = &call.arrays[2];
    if (!require(unit->items == bytes->items, "bytes of every unit")) return end(&call, NULL);
    UNLOCKED(unit_costs(unit->data, bytes->data, unit->items, cost->data, cost->items));
    return end(&call, Py_NewRef(Py_None));
}

PyMethodDef omission_methods[] = {
    {"certified_drops", py_certified_drops, METH_VARARGS, NULL},
    {"expected_rises", py_expected_rises, METH_VARARGS, NULL},
    {"angled_squares", py_angled_squares, METH_VARARGS, NULL},
    {"unit_costs", py_unit_costs, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
