/* Bindings of merge_words.c. */
#include "terms_bind.h"
#include "merge_words.h"

/* base, items, plain, half: the first of each kind of a call's arguments. Words may come as bytes. */
#define SOURCES_PATTERN "r0 R0 r1 i"

static bool are_words(const Array *array, i64 bytes) {
    Py_ssize_t item = array->view.itemsize;
    return (item == 1 || item == 2) && array->view.len == bytes && bytes % 2 == 0;
}

/* False: a Python error is set. */
static bool take_sources(const Call *call, Sources *out) {
    const Array *base = &call->arrays[0], *plain = &call->arrays[1];
    const Arrays *items = &call->lists[0];
    i64 bytes = base->view.len;
    bool fits = are_words(base, bytes) && plain->items == items->count;
    for (i64 i = 0; fits && i < items->count; i++) fits = are_words(&items->arrays[i], bytes);
    *out = (Sources){
        .base = base->data,
        .items = (const u16 *const *)items->data,
        .plain = plain->data,
        .count = items->count,
        .size = bytes / 2,
        .float16 = call->integers[0] != 0,
    };
    return require(fits, "contiguous uint16 arrays, or bytes, of one length, and a flag for each");
}

static PyObject *py_words_combine(PyObject *module, PyObject *args) {
    Call call;
    Sources sources;
    Terms terms;
    if (!begin(&call, args, SOURCES_PATTERN " " TERMS_PATTERN " u w2 w8")) return NULL;
    Array *out = &call.arrays[2 + TERMS_ARRAYS], *nonfinite = &call.arrays[3 + TERMS_ARRAYS];
    if (!take_sources(&call, &sources)) return end(&call, NULL);
    if (!take_terms(&call, 2, 1, sources.count, &terms)) return end(&call, NULL);
    bool fits = out->items == sources.size && nonfinite->items == sources.count + 1;
    if (!require(fits, "a word for each of the base's, and a count for it and each item")) return end(&call, NULL);
    UNLOCKED(words_combine(&sources, &terms, call.words[0], out->data, nonfinite->data));
    return end(&call, Py_NewRef(Py_None));
}

/* One search, of which the call holds five numbers: item, low, high, shift, and whether it counts. */
static bool take_search(const Sources *sources, const i64 *numbers, Array *row, Search *out) {
    i64 low = numbers[1], high = numbers[2], shift = numbers[3];
    bool counts = numbers[4] != 0, fits = 0 <= numbers[0] && numbers[0] < sources->count;
    fits = fits && 0 <= low && low <= ((i64)1 << 31) && high <= ((i64)1 << 31) && 0 <= shift && shift < 32;
    fits = fits && (counts || row->items >= sources->size);
    *out = (Search){.item = numbers[0], .low = low, .high = high, .shift = (int)shift};
    out->counts = counts ? row->data : NULL;
    out->bins = row->items;
    out->found = row->data;
    return require(fits, "an item there is, 0 <= low, high <= 2^31, and room for all patterns");
}

#define NUMBERS 5

static PyObject *py_words_search(PyObject *module, PyObject *args) {
    Call call;
    Sources sources;
    if (!begin(&call, args, SOURCES_PATTERN " r8 W4 w8")) return NULL;
    Array *numbers = &call.arrays[2], *found = &call.arrays[3];
    Arrays *rows = &call.lists[1];
    bool fits = numbers->items == rows->count * NUMBERS && found->items == rows->count;
    fits = take_sources(&call, &sources) && require(fits, "five numbers, an array and a result for each search");
    Search *searches = fits ? PyMem_Malloc((size_t)most(rows->count, 1) * sizeof *searches) : NULL;
    if (fits && searches == NULL) PyErr_NoMemory();
    fits = fits && searches != NULL;
    for (i64 s = 0; fits && s < rows->count; s++)
        fits = take_search(&sources, (const i64 *)numbers->data + NUMBERS * s, &rows->arrays[s], &searches[s]);
    if (fits) {
        UNLOCKED(words_search(&sources, searches, rows->count));
        for (i64 s = 0; s < rows->count; s++) ((i64 *)found->data)[s] = searches[s].found_items;
    }
    PyMem_Free(searches);
    return end(&call, fits ? Py_NewRef(Py_None) : NULL);
}

PyMethodDef merge_words_methods[] = {
    {"words_combine", py_words_combine, METH_VARARGS, NULL},
    {"words_search", py_words_search, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
