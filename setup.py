"""Builds the compiled kernels (mpstore/kernels/native): the same C three times, for older and newer
processors.

All else is in pyproject.toml. On x86-64 the variants are v1 (any), v3 (AVX2, BMI2) and v4 (AVX-512);
elsewhere only v1. Each is optional: where no compiler is found, or one that lacks a flag, installing goes on
without it, and `mpstore.kernels` takes the best variant that is there and that the processor runs, or numpy.
"""

import copy
import os
import platform
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOM = Path("mpstore/kernels/native")
FLAGS = ["-std=c11", "-O3", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter"]
# The bits of the numpy references: no fused multiply-add, no reordering of sums. Traps, errno: nobody's.
FLAGS += ["-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno"]
X86_VARIANTS = {
    "v1": [],
    "v3": ["-march=x86-64-v3"],
    "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}


def extensions() -> list[Extension]:
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return [
        Extension(
            f"mpstore.kernels._native_{name}",
            sources=sorted(str(path) for path in ROOM.glob("*.c")),
            depends=sorted(str(path) for path in ROOM.glob("*.h")),
            define_macros=[("MP_MODULE", f"_native_{name}"), ("Py_LIMITED_API", "0x030B0000")],
            extra_compile_args=[*FLAGS, *more],
            py_limited_api=True,
            optional=True,
        )
        for name, more in (X86_VARIANTS if x86 else {"v1": []}).items()
    ]


class BuildAtOnce(build_ext):
    """The variants beside each other, on all cores, each with object files of its own."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extension(self, ext: Extension) -> None:
        alone = copy.copy(self)
        alone.build_temp = str(Path(self.build_temp) / ext.name)
        super(BuildAtOnce, alone).build_extension(ext)


# One wheel for every Python from 3.11 on; the free-threaded ones have no limited API, and do without kernels.
WHEEL = {} if sysconfig.get_config_var("Py_GIL_DISABLED") else {"py_limited_api": "cp311"}

setup(ext_modules=extensions(), cmdclass={"build_ext": BuildAtOnce}, options={"bdist_wheel": WHEEL})
