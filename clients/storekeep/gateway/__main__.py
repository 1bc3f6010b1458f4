"""The entry point `storekeep-gateway`."""

from __future__ import annotations

from storekeep.gateway.command import main

if __name__ == "__main__":
    main()
