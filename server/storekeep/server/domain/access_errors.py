"""The errors of access: who the caller is, and what it may do. They hang in the tree of `domain.errors`.

DomainError
├── IdentityProviderUnavailable
└── AccessRefused           Unauthenticated, TokenExpired, TokenRevoked, ApiKeyInvalid, CredentialsInvalid,
                            PasswordLinkInvalid, IdentityTokenInvalid, IdentityNotAllowed, PermissionDenied,
                            PrivilegeEscalation
"""

from __future__ import annotations

from typing import Self

from storekeep.server.domain.errors import DomainError


class IdentityProviderUnavailable(DomainError):
    """The keys of the identity provider are not known, or too old."""

    TEXT = "the keys of the identity provider could not be downloaded; try again in a moment"


class AccessRefused(DomainError):
    """The caller is not authenticated, or lacks a permission. Its metadata names no session: the log alone does."""

    _session_id = ""

    @property
    def session_id(self) -> str:
        """The session of the rejected token, for the log only; empty if unknown."""
        return self._session_id

    def attach_session(self, session_id: str) -> Self:
        """Set the session of the rejected token, and return the error."""
        self._session_id = session_id
        return self


class Unauthenticated(AccessRefused):
    """The credentials are missing or invalid.

    Args:
        problem: what is wrong with them, for the caller.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)


class TokenExpired(AccessRefused):
    """The token has expired."""

    TEXT = "the token has expired"


class TokenRevoked(AccessRefused):
    """The token, its session, its API key or its account was revoked or disabled."""

    TEXT = "the token was revoked"


class ApiKeyInvalid(AccessRefused):
    """The API key is unknown, revoked or expired."""

    TEXT = "the API key is unknown, revoked or expired"


class CredentialsInvalid(AccessRefused):
    """The email address, the password or the code is wrong, or the user cannot sign in. The text is always the same."""

    TEXT = "the email address, the password or the code is wrong"


class PasswordLinkInvalid(AccessRefused):
    """The token of an invitation or a password reset is unknown, used or expired."""

    TEXT = "the password link is unknown, used or expired; ask an administrator for a new one"


class IdentityTokenInvalid(AccessRefused):
    """The ID token of an identity provider is not accepted.

    Args:
        problem: why, for the caller, who got the token from the provider and may know it.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)


class IdentityNotAllowed(AccessRefused):
    """The identity provider vouches for the person, who may not sign in here.

    Args:
        problem: why, for the caller.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(f"you cannot sign in: {problem}; ask an administrator")


class PermissionDenied(AccessRefused):
    """The caller lacks the permission."""

    def __init__(self, permission: str, *, is_withheld: bool = False) -> None:
        """Describe the permission, and the next step of a user whose password does not give it."""
        next_step = ": your roles have it, but who sent you the link for your password did not; ask for a new link"
        super().__init__(f"this needs the permission {permission}{next_step if is_withheld else ''}")
        self.permission = permission


class PrivilegeEscalation(AccessRefused):
    """The caller would grant a permission that it lacks, or change a resource that has such a permission."""

    def __init__(self, permission: str) -> None:
        super().__init__(
            f"the call grants {permission} or changes a resource that has it, and you do not have this permission"
        )
        self.permission = permission
