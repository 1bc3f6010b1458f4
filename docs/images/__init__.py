"""Screenshots of the console for the documentation, and the program that takes them."""
