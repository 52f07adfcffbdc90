/* Bindings of adapter.c. */
#include "bind.h"
#include "adapter.h"

PyMethodDef adapter_methods[] = {
    {NULL, NULL, 0, NULL},
};
