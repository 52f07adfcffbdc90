/* What every kernel stands on: names of types, and the bits of floats.

   Kernels are plain C over arrays that do not overlap unless they say so; they allocate nothing, know nothing
   of Python, and give the bits of the numpy reference beside them. The same sources are compiled for several
   processors (setup.py): code for one of them stands behind the compiler's own macros, such as __AVX512BW__. */
#ifndef MP_NATIVE_H
#define MP_NATIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define MAGNITUDE 0x7FFFFFFFu
#define INFINITE 0x7F800000u

static inline u32 bits_of(float value) {
    u32 bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static inline float float_of(u32 bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline double double_of(u64 bits) {
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* Without a branch, for loops that are to become vectors: a condition around arithmetic of floats prevents it. */
static inline u32 choose(bool which, u32 yes, u32 no) {
    u32 mask = 0u - which;
    return (yes & mask) | (no & ~mask);
}

static inline i64 least(i64 a, i64 b) { return a < b ? a : b; }
static inline i64 most(i64 a, i64 b) { return a > b ? a : b; }

#endif
