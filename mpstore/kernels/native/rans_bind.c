/* Bindings of rans_*.c. */
#include "bind.h"
#include "rans.h"

/* Rows of `symbols` items, in two arrays of the same rows. */
static bool fits_rows(const Array *one, const Array *other, i64 symbols) {
    return require(symbols > 0 && symbols <= 256 && symbols % 2 == 0 && one->items % symbols == 0 &&
                       one->items == other->items,
                   "rows of an even number of symbols, at most 256");
}

static bool fits_scales(const Array *logs, const Array *edges, RansScales *scales) {
    *scales = (RansScales){logs->data, edges->data, edges->items};
    return require(logs->items == 256 && edges->items < 255, "256 logarithms, and the edges of weight codes");
}

static PyObject *py_choose_codes(PyObject *module, PyObject *args) {
    Call call;
    RansScales scales;
    if (!begin(&call, args, "r8 i r8 r8 w1")) return NULL;
    Array *counts = call.arrays, *codes = counts + 3;
    i64 symbols = call.integers[0];
    if (!fits_rows(counts, codes, symbols) || !fits_scales(counts + 1, counts + 2, &scales)) return end(&call, NULL);
    UNLOCKED(rans_choose_codes(counts->data, counts->items / symbols, symbols, &scales, codes->data));
    return end(&call, Py_NewRef(Py_None));
}

static bool all_codes(const u8 *codes, i64 count) {
    u8 largest = 0;
    for (i64 i = 0; i < count; i++) largest = codes[i] > largest ? codes[i] : largest;
    return largest <= RANS_LAST_CODE;
}

static PyObject *py_frequencies(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "r1 i w4")) return NULL;
    Array *codes = call.arrays, *out = codes + 1;
    i64 symbols = call.integers[0];
    if (!fits_rows(codes, out, symbols) || !require(all_codes(codes->data, codes->items), "codes of weights"))
        return end(&call, NULL);
    UNLOCKED(rans_frequencies(codes->data, codes->items / symbols, symbols, out->data));
    return end(&call, Py_NewRef(Py_None));
}

static bool all_present(const u8 *codes, i64 contexts, i64 symbols) {
    for (i64 context = 0; context < contexts; context++, codes += symbols) {
        i64 present = 0;
        for (i64 symbol = 0; symbol < symbols; symbol++) present += codes[symbol] > 0;
        if (present == 0) return false;
    }
    return true;
}

static PyObject *py_write_tables(PyObject *module, PyObject *args) {
    Call call;
    i64 bits = 0;
    if (!begin(&call, args, "r1 i w1")) return NULL;
    Array *codes = call.arrays, *out = codes + 1;
    i64 symbols = call.integers[0];
    if (!fits_rows(codes, codes, symbols)) return end(&call, NULL);
    i64 contexts = codes->items / symbols;
    if (!require(out->items >= contexts * RANS_TABLE_BYTES && all_present(codes->data, contexts, symbols),
                 "room for the tables, and a symbol in each"))
        return end(&call, NULL);
    UNLOCKED(bits = rans_write_tables(codes->data, contexts, symbols, out->data));
    return end(&call, PyLong_FromLongLong(bits));
}

static PyObject *py_read_tables(PyObject *module, PyObject *args) {
    Call call;
    i64 bits = 0;
    if (!begin(&call, args, "r1 i w1")) return NULL;
    Array *data = call.arrays, *codes = data + 1;
    i64 symbols = call.integers[0];
    if (!fits_rows(codes, codes, symbols)) return end(&call, NULL);
    UNLOCKED(bits = rans_read_tables(data->data, data->items, codes->items / symbols, symbols, codes->data));
    return end(&call, PyLong_FromLongLong(bits));
}

static bool fits_lanes(i64 lanes) {
    return require(lanes == RANS_FEW || lanes == RANS_MANY, "rANS has 4 or 32 lanes");
}

/* Whether every symbol has a frequency below 4096: one without divides by zero. */
static bool all_frequent(const u8 *symbols, i64 count, const u32 *frequency) {
    u32 wrong = 0;
    for (i64 i = 0; i < count; i++) wrong |= frequency[symbols[i]] - 1 >= 4095;
    return wrong == 0;
}

static PyObject *py_encode_symbols(PyObject *module, PyObject *args) {
    Call call;
    i64 start = 0;
    if (!begin(&call, args, "r1 r4 i w2")) return NULL;
    Array *symbols = call.arrays, *frequency = symbols + 1, *words = symbols + 2;
    i64 lanes = call.integers[0];
    if (!fits_lanes(lanes) ||
        !require(frequency->items == 256 && all_frequent(symbols->data, symbols->items, frequency->data),
                 "256 frequencies, none of a symbol that occurs zero or above 4095"))
        return end(&call, NULL);
    UNLOCKED(start = rans_encode_symbols(symbols->data, symbols->items, frequency->data, lanes, words->data,
                                         words->items));
    return end(&call, PyLong_FromLongLong(start));
}

static PyObject *py_decode_symbols(PyObject *module, PyObject *args) {
    Call call;
    bool whole = false;
    u32 slots[RANS_SLOTS];
    if (!begin(&call, args, "r2 i r4 i w1")) return NULL;
    Array *words = call.arrays, *frequency = words + 1, *out = words + 2;
    i64 used = call.integers[0], lanes = call.integers[1];
    if (!fits_lanes(lanes) ||
        !require(used >= 2 * lanes && used <= words->items - RANS_SLACK, "words, and room to look beyond them") ||
        !require(frequency->items == 256 && rans_slots(frequency->data, 1, 256, slots), "frequencies of 256 symbols"))
        return end(&call, NULL);
    UNLOCKED(whole = rans_decode_symbols(words->data, used, slots, lanes, out->items, out->data));
    return end(&call, PyBool_FromLong(whole));
}

PyMethodDef rans_methods[] = {
    {"choose_codes", py_choose_codes, METH_VARARGS, NULL},
    {"frequencies", py_frequencies, METH_VARARGS, NULL},
    {"write_tables", py_write_tables, METH_VARARGS, NULL},
    {"read_tables", py_read_tables, METH_VARARGS, NULL},
    {"encode_symbols", py_encode_symbols, METH_VARARGS, NULL},
    {"decode_symbols", py_decode_symbols, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
