"""Keys derived from or encrypted with the server's secret: encryption, audit chain keys and secret rotation."""
