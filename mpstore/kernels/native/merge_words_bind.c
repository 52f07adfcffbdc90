/* Bindings of merge_words.c. */
#include "bind.h"
#include "merge_words.h"

PyMethodDef merge_words_methods[] = {
    {NULL, NULL, 0, NULL},
};
