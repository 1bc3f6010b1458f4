"""The standard methods (AIP-131 to AIP-135), once for all resources."""
