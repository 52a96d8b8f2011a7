"""Files that are written whole or not at all, and folders with one writer."""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def replacing(path):
    """Gives a temporary path, whose file becomes `path` if nothing fails.

    Whoever reads `path` finds the old file or the new one, and nothing in between,
    even if the process is killed. Several writers do not disturb each other: the last
    to end has the last word. A killed process leaves its temporary file.

    Where `path` is a symbolic link, the file that it leads to is replaced. A device, a
    pipe, and the file that this process prints to get what was written at their end.

    Example:

    >>> with replacing("log.csv") as temporary:
    ...     characters = temporary.write_text("epoch,loss")

    Args:
        path: Path of a file. The temporary one lies beside it, and has its ending.

    Raises:
        OSError: If there is no space for the file; then `path` is as it was.
    """
    if _is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / Path(path).name
            yield temporary
            with open(temporary, "rb") as file, open(path, "ab") as stream:
                shutil.copyfileobj(file, stream)
        return
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f"unfinished_{secrets.token_hex(4)}_{path.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        # HDF5 makes many lines of it.
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        if temporary.exists():
            # HDF5 may still have open what it could not write, and ends the process
            # with a crash if there is still no space for the rest of it.
            os.truncate(temporary, 0)
            temporary.unlink()


def _is_stream(path):
    """Whether a path is that of a device, of a pipe, or of what is printed to."""
    if not os.path.exists(path):
        return False
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        return not stat.S_ISDIR(found.st_mode)
    for descriptor in (1, 2):
        # Which may be closed.
        with contextlib.suppress(OSError):
            if os.path.samestat(found, os.fstat(descriptor)):
                return True
    return False


@contextlib.contextmanager
def only_writer(folder, names):
    """Keeps other processes from writing the same files at the same time.

    The operating system forgets the lock when this process ends, however it does. What
    earlier, killed ones left unfinished is removed. On Windows, and where the file
    system has no locks, nobody is kept out.

    Example:

    >>> with only_writer("run", ["log.csv"]), replacing("run/log.csv") as temporary:
    ...     characters = temporary.write_text("epoch,loss")

    Args:
        folder: Path of a folder. While it has a writer, there is a file `lock` in it.
        names: Names of files in it, which are written by `replacing`.

    Raises:
        FileExistsError: If there is another writer.
    """
    path = Path(folder) / "lock"
    file = _locked(path) if fcntl else None
    try:
        if file:
            for name in names:
                for left in path.parent.glob(f"unfinished_{'[0-9a-f]' * 8}_{name}"):
                    left.unlink()
        yield
    finally:
        if file:
            path.unlink(missing_ok=True)
            file.close()


def _locked(path):
    """Opens a file and locks it; `None` where there are no locks."""
    while True:
        file = open(path, "a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except BlockingIOError as error:
            file.close()
            raise FileExistsError(
                f"Another process is writing into {path.parent}: wait until it has "
                "ended, or name another folder."
            ) from error
        except FileNotFoundError:
            pass
        except OSError:
            file.close()
            return None
        # Its owner has ended and removed it meanwhile.
        file.close()
