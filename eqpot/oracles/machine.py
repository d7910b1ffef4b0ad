"""Faults of the machine: a full disk, a quota, too many open files, a disk that is only for reading. No structure can be blamed for them.

A label that is lost to one is no `Failure`, which a store would keep for ever: it stops the run.
"""

import errno
import os
import re
import socket

from eqpot.core.errors import DataError

SPACE, QUOTA, FILES, ALL_FILES, READ_ONLY = (
    os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS)
)
ELSEWHERE = "or set TMPDIR to a folder on another disk"
CURES = {
    # NumPy writes arrays without an error code; tempfile tries all folders that it knows.
    rf"{SPACE}|{QUOTA}|\d+ requested and \d+ written|No usable temporary directory": f"free space there, {ELSEWHERE}",
    rf"{FILES}|{ALL_FILES}": "raise the limit of open files (ulimit -n), or use fewer workers",
    READ_ONLY: f"make it writable, {ELSEWHERE}",
}
"""What to do, by what the error says."""


def machine_fault(error: BaseException) -> DataError | None:
    """What to raise instead of an error that the machine is to blame for, else None.

    Calculators wrap errors, and raise OSError without a code for other reasons too, so what led to the error is looked at, and what it says.
    """
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) and before not in chain:
        chain.append(before)
    for each in reversed(chain):  # the first error knows the file
        code, file = (each.errno, each.filename) if isinstance(each, OSError) else (None, None)
        text = f"{each} {os.strerror(code) if code else ''}"
        for sign, cure in CURES.items():
            if found := re.search(sign, text):
                place = f"{file or os.environ.get('TMPDIR', '/tmp')} on {socket.gethostname()}"
                return DataError(f"{place}: {found[0]}, which is no structure's fault; {cure}")
    return None
