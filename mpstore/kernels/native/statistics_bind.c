/* Bindings of statistics.c. */
#include "bind.h"
#include "statistics.h"

PyMethodDef statistics_methods[] = {
    {NULL, NULL, 0, NULL},
};
