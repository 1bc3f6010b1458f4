"""What happens around every call: the log line, error mapping, authorisation, validation, in that order."""
