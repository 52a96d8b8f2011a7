"""For docs/reliability.md: runs of fuzz targets, faults and versions."""

from document_tables.sources import read_results


def fuzzing():
    """Returns what the latest run of each fuzz target came to."""
    columns = ("cases", "crashes", "hangs", "differences", "seconds")
    rows = [
        (
            cell["target"],
            cell["checked_by"],
            *(f"{int(cell[column]):,}" for column in columns),
            cell["machine"],
            cell["date"],
        )
        for cell in read_results("fuzzing.csv")
    ]
    return ("target", "checked by", *columns, "machine", "date"), rows


def faults():
    """Returns what the user is told where a machine fails while files are written."""
    rows = [
        (f"`{cell['place']}`", cell["fault"], cell["message"] or cell["end"])
        for cell in read_results("faults.csv")
    ]
    return ("place", "fault", "told"), rows


def versions():
    """Returns which versions were installed together, and what passed there."""
    rows = [
        (
            cell["python"],
            cell["keras"],
            f"{cell['backend']} {cell['version']}",
            cell["native_op"],
            cell["passed"],
            cell["failure"] or "none",
            cell["seconds"],
            cell["date"],
        )
        for cell in read_results("versions.csv")
    ]
    header = (
        "Python",
        "Keras",
        "backend",
        "native op",
        "passed",
        "failed",
        "s",
        "date",
    )
    return header, rows


def aarch64():
    """Returns what ran on AArch64 under qemu, and what it said."""
    rows = [
        (
            f"`{cell['check']}`",
            cell["made_by"],
            cell["said"],
            cell["failure"] or "none",
            cell["emulator"],
            cell["machine"],
            cell["date"],
        )
        for cell in read_results("aarch64.csv")
    ]
    header = ("check", "by", "said", "failed", "emulator", "machine", "date")
    return header, rows


TABLES = {
    "aarch64": aarch64,
    "faults": faults,
    "fuzzing": fuzzing,
    "versions": versions,
}
