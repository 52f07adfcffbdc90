/* Bindings of rice.c. */
#include "bind.h"
#include "rice.h"

PyMethodDef rice_methods[] = {
    {NULL, NULL, 0, NULL},
};
