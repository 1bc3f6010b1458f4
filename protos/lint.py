"""Hold the contract against its style, and against the last release.

buf reads descriptor images (buf.yaml says why). The last release is the highest tag `v*`: its contract is
taken from git, so a release needs to store nothing but its tag. A clone that has no tags fetches them; where
there is no release yet, that is said and only the style is checked.
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
    """Run git in the checkout; its exit code is the caller's to judge."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603, S607


def release_tags() -> list[str]:
    """The tags of releases in this clone, the latest version first."""
    return run_git("tag", "--list", "v*", "--sort=-version:refname").stdout.decode().split()


def fetch_release_tags() -> None:
    """Bring the tags into a clone that was made without them, as CI's shallow ones are."""
    if run_git("remote").stdout.strip():
        run_git("fetch", "--quiet", "--depth=1", "origin", "refs/tags/v*:refs/tags/v*", timeout_s=FETCH_TIMEOUT_S)


def last_release() -> str | None:
    """The tag of the last release, or None before the first."""
    if not release_tags():
        fetch_release_tags()
    return next(iter(release_tags()), None)


def extract(tar: tarfile.TarFile, *, into: Path) -> None:
    """Write the files of an archive that git made of `protos`.

    Not by `extractall(filter="data")`: Python has it only since 3.11.4, and Debian 12 has 3.11.2.
    """
    for entry in filter(tarfile.TarInfo.isfile, tar):
        path, content = PurePosixPath(entry.name), tar.extractfile(entry)
        if content is None or path.parts[0] != "protos" or ".." in path.parts:
            sys.exit(f"not a file of the contract: {entry.name}")
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.read())


def write_image_of(tag: str, path: Path) -> None:
    """Write the descriptor image of the contract as it was at `tag`."""
    archive = run_git("archive", "--format=tar", tag, "protos")
    if archive.returncode:
        sys.exit(f"cannot read the contract of {tag}: {archive.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        extract(tar, into=Path(scratch))
        write_image(path, protos=Path(scratch, "protos"))


def run_buf(*arguments: str | Path) -> bool:
    """Run buf in the checkout, its findings to the terminal; True when it finds nothing."""
    return subprocess.run([BUF, *arguments], cwd=ROOT, check=False).returncode == 0  # noqa: S603


def findings(scratch: Path) -> list[str]:
    """Check the contract and name the checks that failed."""
    now, before = scratch / "now.binpb", scratch / "before.binpb"
    write_image(now)
    failed = [] if run_buf("lint", now) else ["buf lint"]
    if not run_buf("format", "--path", "protos", "--diff", "--exit-code"):
        failed.append("buf format (run `make format`)")
    tag = last_release()
    if tag is None:
        print("contract: no release tag v* yet, so there is nothing to compare with; style only.")  # noqa: T201
        return failed
    write_image_of(tag, before)
    print(f"contract: compared with {tag}.")  # noqa: T201
    return failed if run_buf("breaking", now, "--against", before) else [*failed, f"buf breaking against {tag}"]


def main() -> None:
    """Run the command line."""
    with tempfile.TemporaryDirectory() as scratch:
        if failed := findings(Path(scratch)):
            sys.exit("the contract fails: " + ", ".join(failed))


if __name__ == "__main__":
    main()
