"""The standard methods (AIP-131 to AIP-135), shared by all resources."""
