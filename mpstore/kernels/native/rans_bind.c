/* Bindings of rans.c. */
#include "bind.h"
#include "rans.h"

PyMethodDef rans_methods[] = {
    {NULL, NULL, 0, NULL},
};
