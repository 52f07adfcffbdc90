/* Bindings of leaning.c. */
#include "bind.h"
#include "leaning.h"

/* (frames, ids, base_id, base, out, codec, form, word_bytes, sign_magnitude, mask, shift, whole): frame i, of the
   object of which ids has the i-th id, to the i-th row of out; whole[i] is 1 where it was one that is decoded here. */
static PyObject *py_decode_leaning(PyObject *module, PyObject *args) {
    Call call;
    if (!begin(&call, args, "R1 r1 r1 r1 w1 i i i i u i w1")) return NULL;
    Arrays *frames = &call.lists[0];
    Array *ids = &call.arrays[0], *base_id = &call.arrays[1], *base = &call.arrays[2], *out = &call.arrays[3];
    Array *whole = &call.arrays[4];
    Leaning leaning = {(int)call.integers[0], (int)call.integers[1], base_id->data};
    RiceShape shape = {(int)call.integers[2], call.integers[3] != 0, call.words[0], (int)call.integers[4]};
    int width = shape.word_bytes;
    bool sound = (width == 1 || width == 2 || width == 4 || width == 8) && shape.shift >= 0 &&
                 shape.shift < 8 * width && shape.mask >> shape.shift < 2048 && base->items > 0 && base->items % width == 0;
    if (!require(sound && base_id->items == ID_BYTES && ids->items == ID_BYTES * frames->count &&
                     out->items == base->items * frames->count && whole->items == frames->count,
                 "an id and a row of whole words for each frame"))
        return end(&call, NULL);
    Py_BEGIN_ALLOW_THREADS
    for (i64 i = 0; i < frames->count; i++)
        ((u8 *)whole->data)[i] = decode_leaning(
            &leaning, &shape, frames->data[i], frames->items[i], (u8 *)ids->data + ID_BYTES * i, base->data,
            base->items / width, (u8 *)out->data + base->items * i);
    Py_END_ALLOW_THREADS
    return end(&call, Py_NewRef(Py_None));
}

PyMethodDef leaning_methods[] = {
    {"decode_leaning", py_decode_leaning, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
