/* Bindings of prefix.c. */
#include "bind.h"
#include "prefix.h"

PyMethodDef prefix_methods[] = {
    {NULL, NULL, 0, NULL},
};
