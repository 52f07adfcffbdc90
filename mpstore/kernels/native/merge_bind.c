/* Bindings of merge.c. */
#include "bind.h"
#include "merge.h"

PyMethodDef merge_methods[] = {
    {NULL, NULL, 0, NULL},
};
