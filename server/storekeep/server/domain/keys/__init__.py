"""Keys under the server's secret: encryption, the keys of the audit chain, and secrets while one replaces another."""
