"""Personal data: exports of everything that is stored about one customer."""
