"""`storekeep import`: products, customers and stock from CSV files."""
