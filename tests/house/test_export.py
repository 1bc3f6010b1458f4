"""`make contract`: the exported contract compiles by itself, with buf and with protoc, and misses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from compilation import list_contract_files, read_validate_descriptor
from export import GOOGLEAPIS, IMAGE, SERVICE_CONFIG, export_contract
from google.protobuf import descriptor_pb2
from lint import BUF

from storekeep.client.channels import SERVICES


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of an exported contract."""
    target = tmp_path_factory.mktemp("contract") / "exported"
    export_contract(target)
    return target


def run_protoc(*arguments: str) -> None:
    """Run protoc as callers do, with the well-known types that it brings."""
    command = [sys.executable, "-m", "grpc_tools.protoc", *arguments]
    assert subprocess.run(command, check=False, timeout=120).returncode == 0


def list_sources(exported: Path) -> list[str]:
    return sorted(str(path.relative_to(exported)) for path in exported.rglob("*.proto"))


def read_image(path: Path) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    return {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file}


def clear_options(file: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    """Return a copy without the rules of fields, and with names that are as long as protoc writes them."""
    copy = descriptor_pb2.FileDescriptorProto()
    copy.CopyFrom(file)
    copy.ClearField("source_code_info")
    copy.ClearField("syntax")
    for message in copy.message_type:
        message.ClearField("options")
        for field in message.field:
            field.ClearField("options")
            field.ClearField("json_name")
        for extensions in message.extension_range:
            extensions.ClearField("options")
        # Members of a oneof are printed together, after the other fields.
        fields = sorted(message.field, key=lambda field: field.number)
        del message.field[:]
        message.field.extend(fields)
    for extension in copy.extension:
        extension.ClearField("json_name")
    return copy


def test_sources_compile_with_nothing_but_the_directory(exported: Path, tmp_path: Path) -> None:
    built = subprocess.run([BUF, "build", exported, "-o", tmp_path / "built.binpb"], capture_output=True, check=False)
    assert built.returncode == 0, built.stderr.decode()
    names = list_sources(exported)
    run_protoc(f"-I{exported}", f"--python_out={tmp_path}", *names)
    assert {*list_contract_files(), *GOOGLEAPIS, "buf/validate/validate.proto"} == set(names)


def test_printed_schema_equals_the_compiled_one(exported: Path, tmp_path: Path) -> None:
    name = "buf/validate/validate.proto"
    run_protoc(f"-I{exported}", f"-o{tmp_path / 'set'}", name)
    printed = read_image(tmp_path / "set")[name]
    assert clear_options(printed) == clear_options(read_validate_descriptor())


def test_descriptor_set_has_comments_and_the_details_of_errors(exported: Path) -> None:
    files = read_image(exported / IMAGE)
    assert {"google/rpc/error_details.proto", "google/protobuf/any.proto", *list_contract_files()} <= set(files)
    assert all(files[name].source_code_info.location for name in list_contract_files())


def test_service_config_names_every_service_and_retries_no_used_refresh_token(exported: Path) -> None:
    retried, refreshed = json.loads((exported / SERVICE_CONFIG).read_text())["methodConfig"]
    assert {name["service"] for name in retried["name"]} == set(SERVICES)
    once = [
        ("Auth", "RefreshToken"),
        ("User", "SignIn"),
        ("User", "SignInWithIdentityToken"),
        ("User", "RedeemPasswordLink"),
    ]
    assert refreshed["name"] == [{"service": f"storekeep.v1.{noun}Service", "method": rpc} for noun, rpc in once]
    assert "UNAVAILABLE" not in refreshed["retryPolicy"]["retryableStatusCodes"]
