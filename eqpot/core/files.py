"""Files that are complete or absent."""

import os
import tempfile
from pathlib import Path


def replace_file(path: Path, blob: bytes) -> None:
    """Write beside the file, flush to the disk, then rename; a failure leaves neither half a file nor a temporary one."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
