"""Check the contract's style, and its compatibility with the last release.

buf reads descriptor images (see buf.yaml). The last release is the highest tag `v*`, and its contract is read from
git, so a release stores nothing but its tag. A clone without tags fetches them. Before the first release, only the
style is checked.
"""

from __future__ import annotations

import io
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from compilation import ROOT, write_image

BUF = Path(sysconfig.get_path("scripts"), "buf")
FETCH_TIMEOUT_S = 60


def run_git(*arguments: str, timeout_s: float = 30) -> subprocess.CompletedProcess[bytes]:
    """Run git in the checkout. The caller checks the exit code."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603, S607


def list_release_tags() -> list[str]:
    """Return the release tags in this clone, latest version first."""
    return run_git("tag", "--list", "v*", "--sort=-version:refname").stdout.decode().split()


def fetch_release_tags() -> None:
    """Fetch the release tags into a clone without them, such as a shallow clone of CI."""
    if run_git("remote").stdout.strip():
        run_git("fetch", "--quiet", "--depth=1", "origin", "refs/tags/v*:refs/tags/v*", timeout_s=FETCH_TIMEOUT_S)


def find_last_release() -> str | None:
    """Return the tag of the last release, or None before the first release."""
    if not list_release_tags():
        fetch_release_tags()
    return next(iter(list_release_tags()), None)


def extract_archive(tar: tarfile.TarFile, *, into: Path) -> None:
    """Write the files of a git archive of `protos` to `into`.

    `extractall(filter="data")` would need Python 3.11.4, and Debian 12 has 3.11.2.
    """
    for entry in filter(tarfile.TarInfo.isfile, tar):
        path, content = PurePosixPath(entry.name), tar.extractfile(entry)
        if content is None or path.parts[0] != "protos" or ".." in path.parts:
            sys.exit(f"unexpected file in the archive of the contract: {entry.name}")
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.read())


def write_release_image(tag: str, path: Path) -> None:
    """Write the descriptor image of the contract at `tag` to `path`."""
    archive = run_git("archive", "--format=tar", tag, "protos")
    if archive.returncode:
        sys.exit(f"cannot read the contract of {tag}: {archive.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        extract_archive(tar, into=Path(scratch))
        write_image(path, protos=Path(scratch, "protos"))


def run_buf(*arguments: str | Path) -> bool:
    """Run buf in the checkout, with its output on the terminal. Return True if it finds nothing."""
    return subprocess.run([BUF, *arguments], cwd=ROOT, check=False).returncode == 0  # noqa: S603


def run_checks(scratch: Path) -> list[str]:
    """Run all checks and return the names of those that failed."""
    now, before = scratch / "now.binpb", scratch / "before.binpb"
    write_image(now)
    failed = [] if run_buf("lint", now) else ["buf lint"]
    if not run_buf("format", "--path", "protos", "--diff", "--exit-code"):
        failed.append("buf format (run `make format`)")
    tag = find_last_release()
    if tag is None:
        print("contract: no release tag v* yet, so nothing to compare with; checked the style only.")  # noqa: T201
        return failed
    write_release_image(tag, before)
    print(f"contract: compared with {tag}.")  # noqa: T201
    return failed if run_buf("breaking", now, "--against", before) else [*failed, f"buf breaking against {tag}"]


def main() -> None:
    """Run the command line."""
    with tempfile.TemporaryDirectory() as scratch:
        if failed := run_checks(Path(scratch)):
            sys.exit("contract: failed checks: " + ", ".join(failed))


if __name__ == "__main__":
    main()
