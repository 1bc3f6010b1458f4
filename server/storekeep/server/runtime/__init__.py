"""Foundations: admission control, cooperative tasks, ports, secrets and files. Imports no other room."""
