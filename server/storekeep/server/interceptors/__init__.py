"""What happens around every call: the log line, error mapping, forwarding, authorisation, validation, in that order."""
