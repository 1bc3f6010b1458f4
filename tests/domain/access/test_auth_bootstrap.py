"""Bootstrap: the first roles, keys and administrator, and the recovery of an owner who is locked out."""

from __future__ import annotations

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
