"""Outbound HTTPS: the only room that opens connections to other organizations' servers. Only jobs call it."""
