"""Bootstrap: the first roles, keys and administrator, and the recovery of an owner who is locked out."""

from __future__ import annotations

import time

import pytest

from storekeep.server.domain.access.bootstrap import bootstrap_admin, install_access
from storekeep.server.domain.access.permissions import AccessVersion
from storekeep.server.domain.access.signing_keys import SigningKeys
from storekeep.server.domain.keys.encryption import DecryptionFailed, SecretBox
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.v1 import auth_pb2 as pb


def bootstrap(installation, **options) -> str | None:
    """Run the bootstrap, and return the new key; None if it created none."""
    stored: list[str] = []
    made = bootstrap_admin(
        installation.store,
        key_secrets=installation.key_secrets,
        known=installation.known,
        keep=stored.append,
        **options,
    )
    return stored[-1] if made else None


def test_bootstrap_admin_does_nothing_where_an_account_exists(installation):
    assert bootstrap(installation) is None


def test_bootstrap_admin_by_force_gives_another_key(installation, nobody):
    for key in (bootstrap(installation, force=True), installation.admin_key):
        assert nobody.with_key(key)("WhoAmI", pb.WhoAmIRequest()).subject == "serviceAccounts/admin"


def test_bootstrap_admin_makes_no_key_that_could_not_be_kept(installation):
    def keys() -> int:
        return installation.store.read(lambda tx: tx.connection.execute("SELECT COUNT(*) FROM api_keys").fetchone()[0])

    def fail(_key: str) -> None:
        raise OSError(28, "No space left on device")

    before = keys()
    with pytest.raises(OSError, match="No space"):
        bootstrap_admin(
            installation.store,
            key_secrets=installation.key_secrets,
            known=installation.known,
            keep=fail,
            force=True,
        )
    assert keys() == before


def test_bootstrap_admin_by_force_lets_a_locked_out_owner_in(admin, nobody, installation):
    account = pb.ServiceAccount(name="serviceAccounts/admin", display_name="Me", disabled=True)
    admin("UpdateServiceAccount", pb.UpdateServiceAccountRequest(service_account=account, update_mask={"paths": ["*"]}))
    assert (
        nobody.refusal("IssueToken", pb.IssueTokenRequest(api_key=installation.admin_key)).reason == "API_KEY_INVALID"
    )
    owner = nobody.with_key(bootstrap(installation, force=True))
    assert set(owner("WhoAmI", pb.WhoAmIRequest()).permissions) == installation.known


def test_install_access_again_writes_nothing(installation):
    def entries():
        return installation.store.read(lambda tx: tx.connection.execute("SELECT COUNT(*) FROM events").fetchone())

    before = entries()
    install_access(
        installation.store,
        keyring=installation.keyring,
        known=installation.known,
        signing_keys=installation.signing_keys,
    )
    assert entries() == before


def test_install_access_with_another_secret_is_refused(installation):
    keyring = Keyring.from_secret(b"x" * 32)
    other = SigningKeys(installation.store, keyring=keyring, version=AccessVersion(installation.store))
    with pytest.raises(DecryptionFailed, match="secret"):
        install_access(installation.store, keyring=keyring, known=installation.known, signing_keys=other)


def test_secret_decrypts_for_its_owner_and_purpose_only():
    box = SecretBox(b"s" * 32, purpose="one")
    encrypted = box.encrypt(b"text", owner="me")
    assert box.decrypt(encrypted, owner="me") == b"text"
    other_purpose, other_secret = SecretBox(b"s" * 32, purpose="two"), SecretBox(b"t" * 32, purpose="one")
    for other, owner in ((box, "you"), (other_purpose, "me"), (other_secret, "me")):
        with pytest.raises(DecryptionFailed):
            other.decrypt(encrypted, owner=owner)
    for broken in (b"", encrypted[:-1], encrypted[:5], bytes(len(encrypted))):
        with pytest.raises(DecryptionFailed):
            box.decrypt(broken, owner="me")


def test_permission_for_personal_data_is_granted_once_to_what_read_it_before(installation, admin):
    """The roles and keys of a database of an older release keep reading personal data, until somebody revokes it."""
    personal = "customers.personal.read"

    def install(known: frozenset[str]) -> None:
        keyring, signing_keys = installation.keyring, installation.signing_keys
        install_access(installation.store, keyring=keyring, known=known, signing_keys=signing_keys)

    def make_role(*permissions: str) -> str:
        return admin("CreateRole", pb.CreateRoleRequest(role=pb.Role(display_name="R", permissions=permissions))).name

    def list_permissions(name: str) -> list[str]:
        return list(admin("GetRole", pb.GetRoleRequest(name=name)).permissions)

    def make_key(*scopes: str) -> str:
        key = pb.ApiKey(scopes=scopes)
        return admin("CreateApiKey", pb.CreateApiKeyRequest(parent="serviceAccounts/admin", api_key=key)).api_key.name

    def list_scopes(name: str) -> list[str]:
        return list(admin("GetApiKey", pb.GetApiKeyRequest(name=name)).scopes)

    install(installation.known - {personal})
    assert personal not in list_permissions("roles/viewer")
    reads, sells = make_role("customers.read"), make_role("products.write")
    reading, selling = make_key("orders.read", "orders.write"), make_key("products.read")
    install(installation.known)
    assert personal in list_permissions("roles/viewer")
    assert list_permissions(reads) == [personal, "customers.read"]
    assert list_permissions(sells) == ["products.write"]
    assert list_scopes(reading) == [personal, "orders.read", "orders.write"]
    assert list_scopes(selling) == ["products.read"]
    while personal not in admin("WhoAmI", pb.WhoAmIRequest()).permissions:
        time.sleep(0.1)  # the server notices a change by another process within seconds
    role = pb.Role(name=reads, permissions=["customers.read"])
    admin("UpdateRole", pb.UpdateRoleRequest(role=role, update_mask={"paths": ["permissions"]}))
    install(installation.known)
    assert list_permissions(reads) == ["customers.read"]
