"""Write `build/sbom.cdx.json`, the CycloneDX bill of materials of the shipped packages.

The file is reproducible: it has no timestamp and no serial number. Licences come from `supply/packages.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from supply.packages import ROOT, list_shipped, read_license

COMMAND = Path(sysconfig.get_path("scripts"), "cyclonedx-py")
TARGET = ROOT / "build" / "sbom.cdx.json"
TIMEOUT_S = 300
ROOT_COMPONENT = "root-component"


def read_environment() -> dict[str, Any]:
    """Return the bill of materials of all installed packages."""
    command = [str(COMMAND), "environment", "--output-reproducible", "--no-validate"]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), sys.executable]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True)  # noqa: S603
    bill: dict[str, Any] = json.loads(done.stdout)
    return bill


def filter_shipped(bill: dict[str, Any]) -> dict[str, Any]:
    """Return the bill with only the shipped packages, each with its licence."""
    shipped = set(list_shipped())
    names = {component["bom-ref"]: canonicalize_name(component["name"]) for component in bill["components"]}
    refs = {ref for ref, name in names.items() if name in shipped} | {ROOT_COMPONENT}
    components = [
        component | {"licenses": [{"expression": read_license(names[component["bom-ref"]])}]}
        for component in bill["components"]
        if component["bom-ref"] in refs
    ]
    dependencies = [
        {"ref": entry["ref"], "dependsOn": [ref for ref in entry.get("dependsOn", []) if ref in refs]}
        for entry in bill["dependencies"]
        if entry["ref"] in refs
    ]
    return bill | {"components": components, "dependencies": dependencies}


def write_bill() -> str:
    """Return the bill of materials of the shipped packages as JSON."""
    return json.dumps(filter_shipped(read_environment()), indent=2, sort_keys=True) + "\n"


def main() -> None:
    """Run the command line. The file is validated against CycloneDX's schema before it is written."""
    text = write_bill()
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"not a valid bill of materials: {error}")
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text)
    print(f"{TARGET.relative_to(ROOT)}: {len(list_shipped())} packages")  # noqa: T201


if __name__ == "__main__":
    main()
