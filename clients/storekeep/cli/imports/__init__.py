"""`storekeep import`: commands that import CSV files."""
