"""The SQLite driver, its checkpoints, and the files of an open database."""
