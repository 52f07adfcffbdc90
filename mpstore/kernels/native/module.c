/* The extension module: every family's methods, and which variant this processor can run. */
#include "bind.h"

/* 1: any processor; 3: AVX2 and BMI2; 4: AVX-512 as x86-64-v4 has it. */
static PyObject *processor_level(PyObject *module, PyObject *nothing) {
    long level = 1;
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("fma"))
        level = 3;
    if (level == 3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512cd"))
        level = 4;
#endif
    return PyLong_FromLong(level);
}

static PyMethodDef own_methods[] = {
    {"processor_level", processor_level, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
#define INIT_OF(name) PyInit_##name
#define INIT(name) INIT_OF(name)

static int fill(PyObject *module) {
    PyMethodDef *families[] = {
        own_methods,
        execute_methods,
        merge_methods,
        merge_words_methods,
        statistics_methods,
        adapter_methods,
        rans_methods,
        rans_block_methods,
        planes_methods,
        rice_methods,
        tiers_methods,
        prefix_methods,
        leaning_methods,
        blake3_methods,
        sha256_methods,
        greedy_methods,
        omission_methods,
        sketches_methods,
        idrows_methods,
        ranks_methods,
    };
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (PyModule_AddFunctions(module, families[i]) < 0) return -1;
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)fill}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = TEXT(MP_MODULE), .m_size = 0, .m_slots = slots};

PyMODINIT_FUNC INIT(MP_MODULE)(void) { return PyModuleDef_Init(&definition); }
