"""Pricing: what applies to a basket, and what the basket costs."""
