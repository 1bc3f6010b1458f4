"""Write `build/sbom.cdx.json`: the CycloneDX bill of materials of what is shipped.

The same packages give the same file: it has no time and no serial number. Licences are those of `supply/packages.py`.
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
    """Return the bill of materials of all that is installed."""
    command = [str(COMMAND), "environment", "--output-reproducible", "--no-validate"]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), sys.executable]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True)  # noqa: S603
    bill: dict[str, Any] = json.loads(done.stdout)
    return bill


def keep_shipped(bill: dict[str, Any]) -> dict[str, Any]:
    """Return the bill with the shipped packages alone, each with its licence."""
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
    """Return the bill of materials of what is shipped, as the text of a file."""
    return json.dumps(keep_shipped(read_environment()), indent=2, sort_keys=True) + "\n"


def main() -> None:
    """Run the command line. What is written has been held against CycloneDX's schema."""
    text = write_bill()
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"not a valid bill of materials: {error}")
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text)
    print(f"{TARGET.relative_to(ROOT)}: {len(list_shipped())} packages")  # noqa: T201


if __name__ == "__main__":
    main()
