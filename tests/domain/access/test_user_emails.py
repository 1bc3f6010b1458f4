"""Email addresses of users: which ones are refused, and who learns whose they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from storekeep.client import (
    AlreadyExists,
    ApiKey,
    InvalidField,
    PasswordNotAllowed,
    Role,
    ServiceAccount,
    Storekeep,
    User,
)
from storekeep.server.runtime.emails import find_email_problem, normalize_email
from storekeep.server.runtime.secrets import KEY_ENCRYPTION_KEY, SECRET_FILE
from tests.conftest import MakeServer
from tests.support.people import PASSWORD, make_person
from tests.support.processes import ServerProcess, run_command
from tests.support.shops import new_id


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("\u0430nn@example.com", "several scripts"),  # a Cyrillic a
        ("ann@ex\u0430mple.com", "several scripts"),
        ("ann@shop.ex\u03b1mple", "several scripts"),  # a Greek alpha
        ("ann\u200bb@example.com", "invisible"),
        ("\uff41nn@example.com", "full-width"),
        ("ann①@example.com", "variants"),
        ("ann@example.com", ""),
        ("\u0430\u043d\u043d\u0430@example.com", ""),
        ("\u0430\u043d\u043d\u0430@\u043f\u0440\u0438\u043c\u0435\u0440.example", ""),
        ("zoë.o'neil+1@example.com", ""),
        ("山田tarou@example.jp", ""),
        ("やまだ山田ー@例え.jp", ""),
        ("김한@example.kr", ""),
    ],
)
def test_address_that_mixes_scripts_may_be_mistaken_for_another(address: str, problem: str):
    found = find_email_problem(normalize_email(address))
    assert problem in found
    assert bool(problem) == bool(found)


def test_user_with_a_lookalike_address_is_refused(client: Storekeep):
    with pytest.raises(InvalidField, match="several scripts"):
        client.users.create_user(User(display_name="A", email=f"\u0430nn{new_id()}@example.com"))
    user = client.users.create_user(User(display_name="A", email=f"{new_id()}@example.com"))
    with pytest.raises(InvalidField, match="several scripts"):
        client.users.update_user(User(name=user.name, email="ann@\u0435\u0445ample.com"), update_mask=["email"])


def test_only_who_reads_personal_data_learns_whose_address_it_is(client: Storekeep, server: ServerProcess):
    permissions = ["accounts.read", "accounts.write"]
    role = client.auth.create_role(Role(display_name="Managers", permissions=permissions), role_id=new_id("r"))
    account = client.auth.create_service_account(ServiceAccount(display_name="M", roles=[role.name]))
    secret = client.auth.create_api_key(account.name, ApiKey(scopes=permissions)).secret
    user = client.users.create_user(User(display_name="A", email=f"{new_id()}@example.com"))
    other = client.users.create_user(User(display_name="B", email=f"{new_id()}@example.com"))
    with Storekeep(server.address, api_key=secret) as manager:
        for attempt in (
            lambda: manager.users.create_user(User(display_name="C", email=user.email)),
            lambda: manager.users.update_user(User(name=other.name, email=user.email), update_mask=["email"]),
        ):
            with pytest.raises(AlreadyExists) as caught:
                attempt()
            assert user.name not in f"{caught.value} {caught.value.metadata}"
        with pytest.raises(AlreadyExists, match=user.name):
            manager.users.create_user(
                User(display_name="C", email=f"{new_id()}@example.com"), user_id=user.name.removeprefix("users/")
            )
    with pytest.raises(AlreadyExists, match=user.name):
        client.users.create_user(User(display_name="C", email=user.email))


def test_password_is_not_changed_to_itself(client: Storekeep):
    with make_person(client).sign_in() as session, pytest.raises(PasswordNotAllowed, match="the current one"):
        session.users.change_password(PASSWORD, PASSWORD)


@pytest.mark.engine("sqlite", reason="the command restores files of SQLite")
def test_user_whose_address_is_lost_gets_no_name_without_one(make_server: MakeServer, tmp_path: Path):
    server = make_server()
    with Storekeep(server.address, api_key=server.admin_key) as client:
        user = client.users.create_user(User(display_name="A", email=f"{new_id()}@example.com"))
    copy = tmp_path / "copy.db"
    assert run_command("backup", str(copy), data_dir=server.data_dir).returncode == 0
    data_dir = tmp_path / "other"
    data_dir.mkdir(mode=0o700)
    for name in (SECRET_FILE, KEY_ENCRYPTION_KEY.current, "admin.key"):
        shutil.copy(server.data_dir / name, data_dir / name)
    (tmp_path / "copy.keys").unlink()
    restored = run_command("restore", str(copy), "--without-keys", data_dir=data_dir)
    assert restored.returncode == 0, restored.stderr
    other = make_server(data_dir=data_dir)
    with Storekeep(other.address, api_key=server.admin_key) as client:
        assert client.users.get_user(user.name).email == ""
        with pytest.raises(InvalidField, match="lost"):
            client.users.update_user(User(name=user.name, display_name="B"))
        assert client.users.update_user(User(name=user.name, disabled=True)).disabled
        changed = client.users.update_user(User(name=user.name, display_name="B", email="b@example.com"))
        assert (changed.display_name, changed.email) == ("B", "b@example.com")
