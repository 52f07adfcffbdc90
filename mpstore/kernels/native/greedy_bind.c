/* Bindings of greedy.c. */
#include "bind.h"
#include "greedy.h"

static bool matrix(const Array *array, i64 rows, i64 columns) { return array->items == rows * columns; }

/* Whether each column's tensor is one of those whose cosines there are. */
static bool tensors_fit(const Array *tensor, const Array *similarity, i64 experts) {
    const i64 *numbers = tensor->data;
    i64 tensors = similarity->items / most(experts * experts, 1);
    bool fit = true;
    for (i64 i = 0; i < tensor->items; i++) fit &= numbers[i] >= 0 && numbers[i] < tensors;
    return fit;
}

static PyObject *py_towards(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r8 r8 r8 i w8")) return NULL;
    Array *error = &call.arrays[0], *similarity = &call.arrays[1], *tensor = &call.arrays[2], *out = &call.arrays[3];
    i64 experts = call.integers[0], count = tensor->items;
    if (!require(experts >= 0 && matrix(error, experts, count) && matrix(out, experts, count), "a row an expert") ||
        !require(tensors_fit(tensor, similarity, experts), "cosines of every tensor"))
        return end(&call, NULL);
    UNLOCKED(towards(error->data, similarity->data, tensor->data, experts, count, out->data));
    return end(&call, Py_NewRef(Py_None));
}

static PyObject *py_walk(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r1 r8 r8 r8 r8 r8 r8 r8 r8 i w4 w8 w8 w8")) return NULL;
    Array *a = call.arrays;
    i64 experts = call.integers[0], count = a[4].items;
    Array *path = &a[9], *paid = &a[10], *norms = &a[11], *scratch = &a[12];
    bool shared = a[7].items > 0;
    Choices choices = {.experts = experts, .count = count, .member = a[0].data, .error = a[1].data, .cost = a[2].data,
                       .similarity = a[3].data, .tensor = a[4].data, .number = shared ? a[7].data : NULL,
                       .bytes = a[8].data};
    bool fits = experts > 0 && matrix(&a[0], experts, count) && matrix(&a[1], experts, count);
    fits = fits && matrix(&a[2], experts, count) && matrix(&a[5], experts, count) && a[6].items == count;
    fits = fits && (!shared || matrix(&a[7], experts, count)) && a[8].items == a[7].items;
    choices.steps = count > 0 ? path->items / count : 0;
    if (!require(fits, "a row an expert") || !require(tensors_fit(&a[4], &a[3], experts), "cosines of every tensor") ||
        !require(matrix(path, choices.steps, count) && paid->items == path->items &&
                     matrix(norms, choices.steps + 1, count) && scratch->items >= 5 * experts * GREEDY_LANES,
                 "a row a step"))
        return end(&call, NULL);
    UNLOCKED(walk(&choices, a[5].data, a[6].data, path->data, paid->data, norms->data, scratch->data));
    return end(&call, Py_NewRef(Py_None));
}

static PyObject *py_hull(PyObject *module, PyObject *args) {
    Call call;
    i64 made = 0;
    if (!begin(&call, args, "r4 r8 r8 w4 w8 w8 w8 w8")) return NULL;
    Array *a = call.arrays, *path = &a[0], *segments = &a[5];
    i64 count = segments->items, steps = count > 0 ? path->items / count : 0;
    if (!require(matrix(path, steps, count), "a row a step") ||
        !require(a[1].items == path->items && a[2].items == path->items && a[3].items == path->items &&
                     a[4].items >= path->items && a[6].items >= 2 * steps && a[7].items >= steps,
                 "as many of each"))
        return end(&call, NULL);
    UNLOCKED(made = hull(path->data, a[1].data, a[2].data, steps, count, a[3].data, a[4].data, segments->data,
                         a[6].data, a[7].data));
    return end(&call, PyLong_FromLongLong(made));
}

static PyObject *py_enter_units(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r4 r4 r8 r8 r8 i w8")) return NULL;
    Array *a = call.arrays, *path = &a[0], *starts = &a[2], *unit = &a[5];
    i64 experts = call.integers[0], count = starts->items, steps = count > 0 ? path->items / count : 0;
    if (!require(matrix(path, steps, count) && a[1].items == path->items && a[4].items == count, "a column each") ||
        !require(experts > 0 && unit->items % experts == 0, "a row an expert"))
        return end(&call, NULL);
    UNLOCKED(enter_units(path->data, a[1].data, steps, count, starts->data, a[3].data, a[3].items, a[4].data,
                         unit->data, experts, unit->items / experts));
    return end(&call, Py_NewRef(Py_None));
}

PyMethodDef greedy_methods[] = {
    {"towards", py_towards, METH_VARARGS, NULL},
    {"walk", py_walk, METH_VARARGS, NULL},
    {"hull", py_hull, METH_VARARGS, NULL},
    {"enter_units", py_enter_units, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
