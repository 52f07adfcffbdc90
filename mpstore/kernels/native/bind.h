/* Between Python and the kernels: arguments by a pattern, arrays held while a kernel runs without the lock.

   A binding says what it takes, checks sizes (a kernel checks none), runs the kernel, and ends:

       static PyObject *py_widen_bf16(PyObject *module, PyObject *args) {
           Call call;
           if (!begin(&call, args, "r2 w4")) return NULL;
           Array *words = &call.arrays[0], *out = &call.arrays[1];
           if (!require(words->items == out->items, "one value a word")) return end(&call, NULL);
           UNLOCKED(widen_bf16(words->data, words->items, out->data));
           return end(&call, Py_NewRef(Py_None));
       }

   Each file of bindings has a table of methods, which module.c adds to the module. */
#ifndef MP_BIND_H
#define MP_BIND_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "native.h"

#define MOST_ARGUMENTS 40

/* One contiguous array of `items` elements. */
typedef struct {
    Py_buffer view;
    void *data;
    i64 items;
} Array;

/* A list of arrays, as their addresses and lengths. */
typedef struct {
    Array *arrays;
    void **data;
    i64 *items;
    i64 count;
} Arrays;

/* What a call was given, by kind and in order. */
typedef struct {
    Array arrays[MOST_ARGUMENTS];
    Arrays lists[MOST_ARGUMENTS];
    i64 integers[MOST_ARGUMENTS];
    u64 words[MOST_ARGUMENTS];
    double floats[MOST_ARGUMENTS];
    int array_count, list_count, integer_count, word_count, float_count;
} Call;

/* Take arguments apart. The pattern has one token an argument: r2 an array of items of 2 bytes to read, w4 one of
   items of 4 bytes to write (r0, w0: of any size, which is in view.itemsize), R2 and W4 sequences of such
   arrays, i an int64 (or bool), u a uint64, d a double.
   False: a Python error is set and nothing is held. */
bool begin(Call *call, PyObject *args, const char *pattern);

/* Let go of what the call holds; returns `result`. */
PyObject *end(Call *call, PyObject *result);

/* ValueError with this message unless `fits`; returns `fits`. */
bool require(bool fits, const char *message);

/* Items of the largest array of a list, and of all of them. */
i64 largest_of(const Arrays *list);
i64 total_of(const Arrays *list);

/* Whether every array of a list has so many items. */
bool all_have(const Arrays *list, i64 items);

#define UNLOCKED(statement)        \
    do {                           \
        Py_BEGIN_ALLOW_THREADS     \
        statement;                 \
        Py_END_ALLOW_THREADS       \
    } while (0)

extern PyMethodDef execute_methods[];
extern PyMethodDef merge_methods[];
extern PyMethodDef merge_words_methods[];
extern PyMethodDef statistics_methods[];
extern PyMethodDef adapter_methods[];
extern PyMethodDef rans_methods[];
extern PyMethodDef rans_block_methods[];
extern PyMethodDef planes_methods[];
extern PyMethodDef rice_methods[];
extern PyMethodDef tiers_methods[];
extern PyMethodDef prefix_methods[];
extern PyMethodDef leaning_methods[];
extern PyMethodDef blake3_methods[];
extern PyMethodDef sha256_methods[];
extern PyMethodDef greedy_methods[];
extern PyMethodDef omission_methods[];
extern PyMethodDef sketches_methods[];
extern PyMethodDef idrows_methods[];
extern PyMethodDef ranks_methods[];

#endif
