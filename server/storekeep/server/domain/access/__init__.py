"""Access control: accounts, API keys, roles, tokens, signing keys and the server's secret."""
