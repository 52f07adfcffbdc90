/* Taking arguments apart and holding arrays: see bind.h. */
#include "bind.h"

bool require(bool fits, const char *message) {
    if (!fits) PyErr_SetString(PyExc_ValueError, message);
    return fits;
}

i64 largest_of(const Arrays *list) {
    i64 largest = 0;
    for (i64 i = 0; i < list->count; i++) largest = most(largest, list->items[i]);
    return largest;
}

i64 total_of(const Arrays *list) {
    i64 total = 0;
    for (i64 i = 0; i < list->count; i++) total += list->items[i];
    return total;
}

bool all_have(const Arrays *list, i64 items) {
    for (i64 i = 0; i < list->count; i++)
        if (list->items[i] != items) return false;
    return true;
}

static bool hold(PyObject *object, Py_ssize_t item, bool writable, Array *out) {
    if (PyObject_GetBuffer(object, &out->view, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) < 0) {
        if (PyErr_ExceptionMatches(PyExc_BufferError)) { /* numpy says ValueError itself */
            PyErr_Clear();
            PyErr_SetString(PyExc_ValueError, "kernels take contiguous arrays, and fill writable ones");
        }
        return false;
    }
    if (item == 0) item = out->view.itemsize;
    if (out->view.itemsize != item || item < 1) {
        PyErr_Format(PyExc_ValueError, "an array of items of %zd bytes where a kernel takes %zd",
                     out->view.itemsize, item);
        PyBuffer_Release(&out->view);
        return false;
    }
    out->data = out->view.buf;
    out->items = out->view.len / item;
    return true;
}

static void release_list(Arrays *list) {
    for (i64 i = 0; i < list->count; i++) PyBuffer_Release(&list->arrays[i].view);
    PyMem_Free(list->arrays);
    PyMem_Free(list->data);
    PyMem_Free(list->items);
}

static bool hold_list(PyObject *sequence, Py_ssize_t item, bool writable, Arrays *out) {
    Py_ssize_t size = PySequence_Size(sequence);
    if (size < 0) return false;
    size_t room = (size_t)most(size, 1);
    out->count = 0;
    out->arrays = PyMem_Malloc(room * sizeof *out->arrays);
    out->data = PyMem_Malloc(room * sizeof *out->data);
    out->items = PyMem_Malloc(room * sizeof *out->items);
    bool held = out->arrays != NULL && out->data != NULL && out->items != NULL;
    if (!held) PyErr_NoMemory();
    for (Py_ssize_t i = 0; held && i < size; i++) {
        PyObject *one = PySequence_GetItem(sequence, i);
        held = one != NULL && hold(one, item, writable, &out->arrays[i]);
        Py_XDECREF(one); /* the buffer holds it from here */
        if (held) {
            out->data[i] = out->arrays[i].data;
            out->items[i] = out->arrays[i].items;
            out->count++;
        }
    }
    if (!held) release_list(out);
    return held;
}

static bool take(Call *call, PyObject *object, const char *token) {
    Py_ssize_t item = token[1] - '0';
    switch (token[0]) {
    case 'r':
    case 'w':
        if (!hold(object, item, token[0] == 'w', &call->arrays[call->array_count])) return false;
        call->array_count++;
        return true;
    case 'R':
    case 'W':
        if (!hold_list(object, item, token[0] == 'W', &call->lists[call->list_count])) return false;
        call->list_count++;
        return true;
    case 'i':
        call->integers[call->integer_count] = PyLong_AsLongLong(object);
        break;
    case 'u':
        call->words[call->word_count] = PyLong_AsUnsignedLongLong(object);
        break;
    default:
        call->floats[call->float_count] = PyFloat_AsDouble(object);
    }
    if (PyErr_Occurred()) return false;
    call->integer_count += token[0] == 'i';
    call->word_count += token[0] == 'u';
    call->float_count += token[0] == 'd';
    return true;
}

bool begin(Call *call, PyObject *args, const char *pattern) {
    call->array_count = call->list_count = call->integer_count = call->word_count = call->float_count = 0;
    Py_ssize_t given = PyTuple_Size(args), place = 0;
    for (const char *token = pattern; *token != 0; place++) {
        if (place >= given || place >= MOST_ARGUMENTS) break;
        if (!take(call, PyTuple_GetItem(args, place), token)) {
            end(call, NULL);
            return false;
        }
        while (*token != 0 && *token != ' ') token++;
        while (*token == ' ') token++;
        if (*token == 0 && place + 1 == given) return true;
    }
    if (*pattern == 0 && given == 0) return true;
    end(call, NULL);
    PyErr_Format(PyExc_TypeError, "a kernel that takes \"%s\" was given %zd arguments", pattern, given);
    return false;
}

PyObject *end(Call *call, PyObject *result) {
    for (int i = 0; i < call->array_count; i++) PyBuffer_Release(&call->arrays[i].view);
    for (int i = 0; i < call->list_count; i++) release_list(&call->lists[i]);
    return result;
}
