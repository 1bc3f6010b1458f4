"""The RPCs: each converts its request, calls the domain and converts back."""
