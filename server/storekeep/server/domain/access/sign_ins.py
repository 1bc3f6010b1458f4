"""Sign-ins of users, and changes of their own password and second factor.

Each call computes one or two hashes before its transaction, whether or not the user exists. The transaction then checks
that the secrets are still the same. Invariant: no code and no link is accepted twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from storekeep.server.domain.access import totp
from storekeep.server.domain.access.failed_attempts import FailedAttempts
from storekeep.server.domain.access.password_links import hash_token
from storekeep.server.domain.access.passwords import Passwords
from storekeep.server.domain.access.permissions import read_names
from storekeep.server.domain.access.sessions import Session
from storekeep.server.domain.access.tokens import Tokens, TokenSet, generate_refresh_token
from storekeep.server.domain.access.user_secrets import (
    NO_SECRETS,
    UserSecrets,
    decrypt_secrets,
    find_secrets,
    put_secrets,
)
from storekeep.server.domain.access.user_sessions import end_sessions
from storekeep.server.domain.access.users import USERS, User, check_user, find_own_id, index_email, make_own_mutation
from storekeep.server.domain.access_errors import CredentialsInvalid, PasswordLinkInvalid
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import IllegalState
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.resources import check_etag
from storekeep.server.runtime.emails import normalize_email
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import users as store

ENABLED, DISABLED = "TOTP_ENABLED", "TOTP_DISABLED"


@dataclass(frozen=True, slots=True)
class _Proof:
    """What a right password, and a right code if the user needs one, have proven.

    Attributes:
        secrets: the secrets that they were checked against.
        totp_step: the time step of the code; 0 without one.
        recovery_code: the recovery code; empty without one.
    """

    user_id: str
    secrets: UserSecrets
    totp_step: int = 0
    recovery_code: str = ""


class SignIns:
    """Signs users in, and changes their secrets.

    Args:
        passwords: the rules and hashes of passwords.
        keyring: the server's secrets, which encrypt those of users.
        tokens: starts the sessions.
    """

    def __init__(self, database: Store, *, passwords: Passwords, keyring: Keyring, tokens: Tokens) -> None:
        self._database = database
        self._passwords = passwords
        self._keyring = keyring
        self._tokens = tokens
        self._wrong_codes = FailedAttempts()
        self._wrong_own_passwords = FailedAttempts()

    def sign_in(self, call: Call, *, email: str, password: str, code: str, program: str) -> TokenSet:
        """Start a session of a user.

        Args:
            call: its caller is anonymous; the audit entry names the user instead.
            code: a code of the second factor; ignored for a user without one.

        Raises: CredentialsInvalid. The text and the work done are the same for every cause.
        """
        address = normalize_email(email)
        proof = self._prove(lambda tx: store.FIND_CREDENTIALS.one(tx, email=index_email(tx, address)), password, code)
        refresh_token = generate_refresh_token()

        def work(tx: Transaction) -> Session:
            self._use(make_own_mutation(tx, call, proof.user_id), proof)
            return self._tokens.add_user_session(tx, call, proof.user_id, program=program, refresh_token=refresh_token)

        session = self._database.write(work, deadline=call.deadline)
        return self._tokens.build_user_tokens(session, refresh_token=refresh_token)

    def _prove(self, find: Callable[[Transaction], Row | None], password: str, code: str) -> _Proof:
        """Check a password, and a code if the user has a second factor.

        Args:
            find: finds the id of the user, whether it is active, and its encrypted secrets.

        Raises: CredentialsInvalid.
        """

        def read(tx: Transaction) -> tuple[str, bool, UserSecrets | None, int]:
            user_id, is_active, sealed = find(tx) or ("", False, None)
            sealed = None if sealed is None else bytes(sealed)
            return user_id, bool(is_active), decrypt_secrets(user_id, sealed, keyring=self._keyring), tx.now_us

        user_id, is_active, secrets, now_us = self._database.snapshot(read)
        secrets = secrets or NO_SECRETS
        if not self._passwords.verify(password, secrets.password_hash) or not is_active:
            raise CredentialsInvalid
        return self._prove_code(_Proof(user_id, secrets), code, now_us=now_us)

    def _prove_code(self, proof: _Proof, code: str, *, now_us: int) -> _Proof:
        """Check the code of a user whose password is right.

        Raises: CredentialsInvalid.
        """
        secrets = proof.secrets
        if not secrets.totp_secret:
            return proof
        if not code or not self._wrong_codes.take(proof.user_id):
            raise CredentialsInvalid
        step = totp.find_step(secrets.totp_secret, code, now_us=now_us)
        recovery_code = "" if step else totp.find_recovery_code(secrets.recovery_codes, code)
        if not step and not recovery_code:
            raise CredentialsInvalid
        self._wrong_codes.clear(proof.user_id)
        return _Proof(proof.user_id, secrets, step or 0, recovery_code)

    def _use(self, mutation: Mutation, proof: _Proof) -> tuple[User, UserSecrets]:
        """Use up the code of a proof. Return the user and its secrets, which must be those of the proof.

        Raises: CredentialsInvalid if the user or the secrets have changed, or the code was used before.
        """
        tx = mutation.tx
        user = USERS.find(tx, (proof.user_id,))
        is_same = find_secrets(tx, user.id, keyring=self._keyring) == proof.secrets
        if user.disabled or user.delete_time_us is not None or not is_same:
            raise CredentialsInvalid
        if proof.totp_step and not store.USE_TOTP_STEP.change(tx, user_id=user.id, totp_step=proof.totp_step):
            raise CredentialsInvalid
        if not proof.recovery_code:
            return user, proof.secrets
        codes = tuple(code for code in proof.secrets.recovery_codes if code != proof.recovery_code)
        secrets = msgspec.structs.replace(proof.secrets, recovery_codes=codes)
        return put_secrets(mutation, user, secrets, keyring=self._keyring, action="recovery_code_used"), secrets

    def redeem_link(self, call: Call, *, token: str, new_password: str) -> None:
        """Set the password of the user of a password link, and end all its sessions.

        The password gives only permissions that the creator of the link had.

        Raises: PasswordLinkInvalid, PasswordNotAllowed.
        """
        token_hash = hash_token(token)

        def find(tx: Transaction) -> tuple[User, tuple[str, ...]]:
            row = store.FIND_PASSWORD_LINK.one(tx, token_hash=token_hash, now_us=tx.now_us)
            if row is None:
                raise PasswordLinkInvalid
            return USERS.find(tx, (row[0],)), read_names(row[1])

        user, _ = self._database.read(find)
        self._passwords.check_new(new_password, own_words=(user.email, user.display_name))
        password_hash = self._passwords.hash(new_password)

        def work(tx: Transaction) -> None:
            owner, limit = find(tx)
            mutation = make_own_mutation(tx, call, owner.id)
            secrets = find_secrets(tx, owner.id, keyring=self._keyring) or NO_SECRETS
            secrets = msgspec.structs.replace(secrets, password_hash=password_hash, permissions=limit)
            self._put(mutation, owner, secrets, "password_set")
            end_sessions(mutation, owner.id)

        self._database.write(work, deadline=call.deadline)

    def change_password(self, call: Call, *, password: str, new_password: str) -> None:
        """Change the password of the user who calls, and end all its other sessions.

        Raises: CredentialsInvalid, PasswordNotAllowed.
        """
        proof, user = self._prove_own(call, password)
        self._passwords.check_new(new_password, own_words=(user.email, user.display_name), current=password)
        password_hash = self._passwords.hash(new_password)
        self._change_own(call, proof, "password_changed", password_hash=password_hash)

    def enable_totp(self, call: Call, *, password: str, secret: str, code: str) -> tuple[str, ...]:
        """Enable the second factor of the user who calls, and end all its other sessions.

        Args:
            secret: what the authenticator app holds, in base 32.

        Returns: the recovery codes.

        Raises: CredentialsInvalid, IllegalState if it is enabled.
        """
        proof, user = self._prove_own(call, password)
        if proof.secrets.totp_secret:
            raise IllegalState(user.name, state=ENABLED, target=ENABLED, sentence="has an authenticator app already")
        proof = self._prove_code(
            _Proof(user.id, msgspec.structs.replace(proof.secrets, totp_secret=secret, recovery_codes=())),
            code,
            now_us=self._database.read(lambda tx: tx.now_us),
        )
        recovery_codes = totp.generate_recovery_codes()
        plain = msgspec.structs.replace(proof.secrets, totp_secret="", recovery_codes=())
        proof = _Proof(user.id, plain, proof.totp_step)
        self._change_own(call, proof, "totp_enabled", totp_secret=secret, recovery_codes=recovery_codes)
        return recovery_codes

    def disable_totp(self, call: Call, *, password: str, code: str) -> None:
        """Disable the second factor of the user who calls, and end all its other sessions.

        Raises: CredentialsInvalid, IllegalState if it is not enabled.
        """
        proof, user = self._prove_own(call, password)
        if not proof.secrets.totp_secret:
            raise IllegalState(user.name, state=DISABLED, target=DISABLED, sentence="has no authenticator app")
        proof = self._prove_code(proof, code, now_us=self._database.read(lambda tx: tx.now_us))
        self._change_own(call, proof, "totp_disabled", totp_secret="", recovery_codes=())

    def reset_totp(self, call: Call, user_id: str, *, etag: str) -> User:
        """Remove the second factor of a user, and end all its sessions. The caller must have its permissions.

        Raises: UserNotFound, PrivilegeEscalation, EtagMismatch, IllegalState.
        """

        def check(mutation: Mutation, _stored: User | None) -> None:
            check_user(mutation, user_id)

        def effect(mutation: Mutation) -> User:
            user = USERS.find(mutation.tx, (user_id,))
            check_etag(user, etag)
            secrets = find_secrets(mutation.tx, user_id, keyring=self._keyring)
            if secrets is None or not user.totp_enabled:
                raise IllegalState(user.name, state=DISABLED, target=DISABLED, sentence="has no authenticator app")
            plain = msgspec.structs.replace(secrets, totp_secret="", recovery_codes=())
            end_sessions(mutation, user_id)
            return put_secrets(mutation, user, plain, keyring=self._keyring, action="totp_reset")

        return mutate(self._database, call, effect, User, check_access=check)

    def _prove_own(self, call: Call, password: str) -> tuple[_Proof, User]:
        """Check the password of the user who calls. A program fails after as much work.

        Raises: CredentialsInvalid.
        """
        user_id = find_own_id(call.caller)

        def read(tx: Transaction) -> tuple[User | None, UserSecrets | None]:
            row = USERS.rows.find(tx, (user_id,))
            user = None if row is None else USERS.read_rows(tx, [row])[0]
            return user, find_secrets(tx, user_id, keyring=self._keyring)

        user, secrets = self._database.snapshot(read)
        secrets = secrets or NO_SECRETS
        is_admitted = self._wrong_own_passwords.take(user_id)
        if not self._passwords.verify(password, secrets.password_hash) or user is None or not is_admitted:
            raise CredentialsInvalid
        self._wrong_own_passwords.clear(user_id)
        return _Proof(user.id, secrets), user

    def _change_own(self, call: Call, proof: _Proof, action: str, **changes: object) -> None:
        """Change the secrets of the user who calls, and end all its other sessions.

        Raises: CredentialsInvalid if the secrets have changed meanwhile, or the code was used before.
        """

        def work(tx: Transaction) -> None:
            mutation = Mutation(tx, call)
            user, secrets = self._use(mutation, proof)
            self._put(mutation, user, msgspec.structs.replace(secrets, **changes), action)
            end_sessions(mutation, user.id, but=call.caller.session_id)

        self._database.write(work, deadline=call.deadline)

    def _put(self, mutation: Mutation, user: User, secrets: UserSecrets, action: str) -> None:
        """Store changed secrets. Links to set the password stop working."""
        put_secrets(mutation, user, secrets, keyring=self._keyring, action=action)
        store.DELETE_PASSWORD_LINKS.run(mutation.tx, user_id=user.id)
