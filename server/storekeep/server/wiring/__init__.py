"""Parts of the composition root that the server and the commands share."""
