/* Bindings of planes.c. */
#include "bind.h"
#include "planes.h"

PyMethodDef planes_methods[] = {
    {NULL, NULL, 0, NULL},
};
