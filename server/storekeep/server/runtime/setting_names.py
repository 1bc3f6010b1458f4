"""Names of environment variables: of settings, of the settings file, and of other programs."""

from __future__ import annotations

PREFIX = "STOREKEEP_"
FILE_VARIABLE = "STOREKEEP_CONFIG_FILE"
"""Path of the settings file: TOML if it ends in `.toml`, otherwise lines of `STOREKEEP_NAME=value`."""
OTHER_PREFIX = "STOREKEEP_GATEWAY_"
"""Prefix of the settings of the gateway."""
OTHER_VARIABLES = frozenset(
    {
        FILE_VARIABLE,
        "STOREKEEP_ADDRESS",
        "STOREKEEP_API_KEY",
        "STOREKEEP_CLI_CA_FILE",
        "STOREKEEP_CLI_CERT_FILE",
        "STOREKEEP_CLI_CONSOLE",
        "STOREKEEP_CLI_KEY_FILE",
        "STOREKEEP_DEBUG",
        "STOREKEEP_HTTP_LISTEN",
        "STOREKEEP_LOGIN_FILE",
        "STOREKEEP_REAL_DATA",
    }
)
"""Variables of the client, the command line, the gateway and the tests."""
