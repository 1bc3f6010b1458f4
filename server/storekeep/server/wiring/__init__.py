"""Parts of the composition root that commands share with the server."""
