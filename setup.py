"""Compiles custom_ops/cc into keras_shift/custom_ops/_shift_ops.so.

Everything else that describes the package is in setup.cfg. The op is written on
TensorFlow's C API, whose declarations it brings along, so that neither compiling nor
linking it needs TensorFlow or Python's headers: one file serves every TensorFlow and
every Python of a platform. Without a working compiler the package installs without it.
"""

import os
import platform
import runpy
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

# `setup` needs paths relative to this file, with forward slashes.
ROOT = Path(__file__).resolve().parent
CC = ROOT / "custom_ops" / "cc"

SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in CC.glob("*.cc")
    if not path.stem.endswith("_test")
)
HEADERS = sorted(path.relative_to(ROOT).as_posix() for path in CC.glob("*.h"))

FLAGS = ["-std=c++20", "-O3", "-fvisibility=hidden", "-pthread"]
# There is one object for each instruction set. Which of them runs is decided when the
# op is loaded. custom_ops/cc/BUILD and tools/cc_tests.sh repeat these flags, and
# test_packaging.py compares them.
X86_FLAGS = {
    "_avx2": ["-mavx2", "-mfma", "-mf16c"],
    "_avx512": [
        "-mavx512f",
        "-mavx512vl",
        "-mavx512bw",
        "-mavx512dq",
        "-mfma",
        "-mf16c",
        "-mprefer-vector-width=512",
    ],
    "_avx512bf16": [
        "-mavx512f",
        "-mavx512vl",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512bf16",
        "-mfma",
        "-mf16c",
        "-mprefer-vector-width=512",
    ],
}


def isa_flags(source):
    """Returns the flags of this file alone, by the end of its name."""
    for suffix, flags in X86_FLAGS.items():
        if Path(source).stem.endswith(suffix):
            # On macOS, one build may be for two architectures.
            if sys.platform == "darwin":
                return [word for flag in flags for word in ("-Xarch_x86_64", flag)]
            if platform.machine().lower() in ("x86_64", "amd64"):
                return flags
    return []


class Build(build):
    """Starts from an empty folder, without the files of an earlier build."""

    def run(self):
        base = Path(self.build_base).resolve()
        for folder in {self.build_lib, self.build_platlib, self.build_purelib}:
            if base in Path(folder).resolve().parents:
                shutil.rmtree(folder, ignore_errors=True)
        super().run()


class BuildOp(build_ext):
    """Compiles each source with its own flags, and links a file named just *.so."""

    def get_ext_filename(self, fullname):
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext):
        def compile_one(source):
            return self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                macros=ext.define_macros,
                include_dirs=ext.include_dirs,
                # Python's own flags often ask for debugging information.
                extra_postargs=["-g0", *FLAGS, *isa_flags(source)],
                depends=ext.depends,
            )

        path = Path(self.get_ext_fullpath(ext.name))
        path.unlink(missing_ok=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = [o for made in pool.map(compile_one, ext.sources) for o in made]
        self.compiler.link_shared_object(
            objects,
            str(path),
            extra_postargs=ext.extra_link_args,
            target_lang="c++",
        )


class Wheel(bdist_wheel):
    """Tags wheels py3-none-<platform>: the op depends on no version of Python."""

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


def extensions():
    # Windows needs an import library of TensorFlow's C API, and there is none.
    if sys.platform == "win32":
        return []
    stamp = runpy.run_path(str(CC.parent / "source_stamp.py"))["source_stamp"]()
    return [
        Extension(
            "keras_shift.custom_ops._shift_ops",
            SOURCES,
            depends=HEADERS,
            define_macros=[("KERAS_SHIFT_STAMP", f'"{stamp}"')],
            include_dirs=["."],
            extra_link_args=(
                ["-undefined", "dynamic_lookup"]
                if sys.platform == "darwin"
                else ["-pthread"]
            ),
            language="c++",
            optional=True,
        )
    ]


setup(
    ext_modules=extensions(),
    cmdclass={"bdist_wheel": Wheel, "build": Build, "build_ext": BuildOp},
)
