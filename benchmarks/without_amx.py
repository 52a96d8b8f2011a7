"""Runs another benchmark as on a processor without Intel's matrix unit (AMX).

    python benchmarks/without_amx.py benchmarks/frontier.py ...

XNNPACK computes int8 matrices by AMX where it may, and takes longer for small ones than
without it: in benchmarks/results/frontier.csv, both are there for the same machine.
Phones' processors have no such unit, and are closer to this one without it.

Linux gives AMX to the processes that ask for it. This one's question is refused, by a
filter on system calls that it installs itself. The table then names the machine by the
next best vector instructions.
"""

import ctypes
import os
import platform
import runpy
import sys
from pathlib import Path

# `keras_shift.environment.machine` reads this.
REFUSED = "KERAS_SHIFT_WITHOUT_AMX"

# These are numbers of Linux for x86-64, from its headers.
_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM = 158, 0x1023
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, _PR_SET_NO_NEW_PRIVS = 22, 2, 38
_LOAD, _SKIP_UNLESS_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _FIRST_ARGUMENT = 0, 16
_ALLOW, _INVALID_ARGUMENT = 0x7FFF0000, 0x00050000 | 22


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_uint16),
        ("instructions", ctypes.POINTER(_Instruction)),
    )


def refuse_amx():
    """Makes Linux refuse AMX to this thread and to all that it starts.

    Raises:
        OSError: If Linux does not take the filter, or this is no Linux on x86-64.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise OSError("AMX can only be refused on Linux for x86-64.")
    instructions = (_Instruction * 6)(
        (_LOAD, 0, 0, _NUMBER),
        (_SKIP_UNLESS_EQUAL, 0, 3, _ARCH_PRCTL),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_SKIP_UNLESS_EQUAL, 0, 1, _ARCH_REQ_XCOMP_PERM),
        (_RETURN, 0, 0, _INVALID_ARGUMENT),
        (_RETURN, 0, 0, _ALLOW),
    )
    program = _Program(len(instructions), instructions)
    linux = ctypes.CDLL(None, use_errno=True)
    for call in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program)),
    ):
        if linux.prctl(*call):
            raise OSError(ctypes.get_errno(), "Linux does not take the filter.")
    os.environ[REFUSED] = "1"


def main(script, arguments):
    """Runs a script, which sets its environment before its imports, without AMX."""
    refuse_amx()
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).resolve().parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(sys.argv[1], sys.argv[2:])
