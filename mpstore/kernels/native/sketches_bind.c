/* Bindings of sketches.c. */
#include "bind.h"
#include "sketches.h"

/* The first arguments of both functions: sketches, rows, width. An empty array: that expert has none. */
static bool sketches_of(Call *call, Sketches *out) {
    Arrays *vectors = &call->lists[0];
    i64 width = call->integers[0], count = call->arrays[0].items, last = -1;
    const i64 *rows = call->arrays[0].data;
    bool fit = width > 0;
    for (i64 k = 0; k < count; k++) {
        fit &= rows[k] >= 0;
        last = most(last, rows[k]);
    }
    for (i64 i = 0; fit && i < vectors->count; i++) {
        if (vectors->items[i] == 0)
            vectors->data[i] = NULL;
        else
            fit = last < vectors->items[i] / width;
    }
    *out = (Sketches){(const i8 **)vectors->data, rows, vectors->count, count, width};
    return require(fit, "rows that the sketches have");
}

static PyObject *py_sketch_squares(PyObject *module, PyObject *args) {
    Call call;
    Sketches own;
    if (!begin(&call, args, "R1 r8 i w8")) return NULL;
    Array *squares = &call.arrays[1];
    if (!sketches_of(&call, &own) || !require(squares->items == own.experts * own.count, "a row an expert"))
        return end(&call, NULL);
    UNLOCKED(sketch_squares(&own, squares->data));
    return end(&call, Py_NewRef(Py_None));
}

static PyObject *py_sketch_products(PyObject *module, PyObject *args) {
    Call call;
    Sketches own;
    if (!begin(&call, args, "R1 r8 i r8 w8 w8")) return NULL;
    Array *scale = &call.arrays[1], *products = &call.arrays[2], *scratch = &call.arrays[3];
    if (!sketches_of(&call, &own) ||
        !require(scale->items == own.experts * own.count && products->items == own.experts * own.experts &&
                     scratch->items >= own.experts * SKETCH_ROWS * own.width,
                 "a row an expert"))
        return end(&call, NULL);
    UNLOCKED(sketch_products(&own, scale->data, products->data, scratch->data));
    return end(&call, Py_NewRef(Py_None));
}

PyMethodDef sketches_methods[] = {
    {"sketch_squares", py_sketch_squares, METH_VARARGS, NULL},
    {"sketch_products", py_sketch_products, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
