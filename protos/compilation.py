"""Compile the contract: the stubs in `generated/`, and the descriptor image for `buf` and the docs.

protoc comes from grpcio-tools and protovalidate's schema from its own wheel, so no compiler needs to be installed.
"""

from __future__ import annotations

import importlib
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from google import api as googleapis
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GENERATED = ROOT / "generated"
VALIDATE_PROTO = "buf/validate/validate.proto"
WELL_KNOWN = ("any_pb2", "descriptor_pb2", "duration_pb2", "field_mask_pb2", "struct_pb2", "timestamp_pb2")


def write_dependencies(path: Path) -> None:
    """Write the well-known types and protovalidate's schema to `path`, as a descriptor set.

    The wheel of protovalidate contains only the descriptor of its schema, not the source.
    """
    files = descriptor_pb2.FileDescriptorSet()
    for module in WELL_KNOWN:
        importlib.import_module(f"google.protobuf.{module}").DESCRIPTOR.CopyToProto(files.file.add())
    files.file.add().CopyFrom(read_validate_descriptor())
    path.write_bytes(files.SerializeToString())


def read_validate_descriptor() -> descriptor_pb2.FileDescriptorProto:
    """Return protovalidate's schema, which its wheel contains in compiled form."""
    return descriptor_pb2.FileDescriptorProto.FromString(validate_pb.desc().proto.to_binary())


def find_googleapis() -> Path:
    """Return the directory of the sources of googleapis, with paths such as `google/api/annotations.proto`."""
    return Path(next(iter(googleapis.__path__))).parent.parent


def list_contract_files(protos: Path = PROTOS) -> list[str]:
    """Return the contract's files in `protos`, sorted, as paths relative to it."""
    return sorted(str(path.relative_to(protos)) for path in protos.glob("storekeep/**/*.proto"))


def list_plugins() -> list[str]:
    """Return protoc's options for mypy-protobuf, which is installed beside this Python and maybe not on the PATH."""
    scripts = Path(sysconfig.get_path("scripts"))
    return [f"--plugin={name}={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]


def run_protoc(*arguments: str, protos: Path = PROTOS) -> None:
    """Run protoc on the contract in `protos`; exit with protoc's exit code if it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        dependencies = Path(scratch, "dependencies.binpb")
        write_dependencies(dependencies)
        sources = [f"--descriptor_set_in={dependencies}", f"-I{protos}", f"-I{find_googleapis()}"]
        code = protoc.main(["protoc", *list_plugins(), *sources, *arguments])
    if code:
        sys.exit(code)


def generate(target: Path) -> None:
    """Write the content of `generated/` to `target`."""
    run_protoc(f"--python_out={target}", f"--mypy_out=quiet:{target}", VALIDATE_PROTO, *list_contract_files())
    services = [f for f in list_contract_files() if "\nservice " in (PROTOS / f).read_text()]
    run_protoc(f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}", *services)
    (target / "storekeep/v1/py.typed").touch()


def write_image(path: Path, *, protos: Path = PROTOS, extra: Sequence[str] = ()) -> None:
    """Write the contract in `protos`, with comments and imports, to `path` as one descriptor set.

    Args:
        extra: further files to include, which the contract does not import.
    """
    includes = ["--include_imports", "--include_source_info"]
    run_protoc(f"--descriptor_set_out={path}", *includes, *list_contract_files(protos), *extra, protos=protos)
