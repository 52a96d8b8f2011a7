"""Writes files completely or not at all, and allows one writer in a folder."""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such module.
    fcntl = None  # type: ignore[assignment]

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path, whose file replaces `path` if nothing fails.

    A reader of `path` finds either the old file or the complete new one, even if the
    process is killed. Several writers do not disturb each other: the file of the
    writer that ends last remains. A killed process leaves its temporary file behind.

    If `path` is a symbolic link, the file that it leads to is replaced. If `path` is a
    device, a pipe, or the file that this process prints to, what was written is
    appended to it instead.

    Example:

    >>> with replacing("log.csv") as temporary:
    ...     characters = temporary.write_text("epoch,loss")

    Args:
        path: Path of a file. The temporary file lies in the same folder, and its name
            has the same ending.

    Yields:
        The temporary path.

    Raises:
        OSError: If there is no space for the file. Then `path` stays as it was.
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
        # The user knows nothing of the temporary name. HDF5, which has no space, puts
        # many lines into its message.
        of_temporary = error.filename == os.fspath(temporary)
        if error.errno is None or not (of_temporary or error.errno in _NO_SPACE):
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        if temporary.exists():
            # After an error, HDF5 may still have the file open with data to write. It
            # crashes the process if there is no space for them then either.
            os.truncate(temporary, 0)
            temporary.unlink()


def _is_stream(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path is a device, a pipe, or the file that is printed to."""
    if not os.path.exists(path):
        return False
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        return not stat.S_ISDIR(status.st_mode)
    for descriptor in (1, 2):
        # The descriptor may be closed, which is no error here.
        with contextlib.suppress(OSError):
            if os.path.samestat(status, os.fstat(descriptor)):
                return True
    return False


@contextlib.contextmanager
def only_writer(folder: str | os.PathLike[str], names: Iterable[str]) -> Iterator[None]:
    """Keeps other processes from writing the same files at the same time.

    The operating system releases the lock when this process ends, even if it is killed.
    Temporary files that killed processes left behind are removed. On Windows, and
    where the file system has no locks, other processes are not kept out.

    Example:

    >>> with only_writer("run", ["log.csv"]), replacing("run/log.csv") as temporary:
    ...     characters = temporary.write_text("epoch,loss")

    Args:
        folder: Path of a folder. While it has a writer, it holds a file `lock`.
        names: Names of the files in the folder that are written with `replacing`.

    Raises:
        FileExistsError: If another process is the writer.
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
    """Returns a file that is open and locked, or `None` where there are no locks."""
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
        # The process that had the lock has ended and removed the file meanwhile.
        file.close()
