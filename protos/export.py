"""Write the contract with all its imports to a directory, for compilers of other languages: `make contract`.

No registry is needed: googleapis' sources come from its wheel, and protovalidate's schema is printed from the
descriptor in its own. Everything comes from packages that the lock names.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from compilation import (
    PROTOS,
    ROOT,
    VALIDATE_PROTO,
    find_googleapis,
    list_contract_files,
    read_validate_descriptor,
    write_image,
)
from printing import print_file

GOOGLEAPIS = (
    "google/api/annotations.proto",
    "google/api/field_behavior.proto",
    "google/api/http.proto",
    "google/api/resource.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
    "google/type/money.proto",
)
"""The files of googleapis that the contract imports, and those of the details of its errors."""
SERVICE_CONFIG = "service_config.json"
IMAGE = "storekeep.binpb"
TARGET = ROOT / "build" / "contract"
BUF_MODULE = "version: v2\n"


def export_contract(target: Path) -> None:
    """Write the sources, the descriptor image and the service config to `target`, which is emptied first."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    write_image(target / IMAGE, extra=[name for name in GOOGLEAPIS if name.startswith("google/rpc/")])
    for name in list_contract_files():
        _copy(PROTOS / name, target / name)
    for name in GOOGLEAPIS:
        _copy(find_googleapis() / name, target / name)
    validate = target / VALIDATE_PROTO
    validate.parent.mkdir(parents=True)
    validate.write_text(print_file(read_validate_descriptor()))
    (target / "buf.yaml").write_text(BUF_MODULE)
    shutil.copyfile(PROTOS / SERVICE_CONFIG, target / SERVICE_CONFIG)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, nargs="?", default=TARGET, help="the directory (default: %(default)s)")
    target: Path = parser.parse_args().target
    if target.exists() and any(target.iterdir()) and not (target / IMAGE).exists():
        sys.exit(f"{target} has other files; name an empty directory")
    export_contract(target)
    print(f"wrote the contract and its imports to {target}")  # noqa: T201


if __name__ == "__main__":
    main()
