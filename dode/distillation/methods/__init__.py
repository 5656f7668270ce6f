"""Fits by name, one file each: methods of others that learn the numbers of a few-step solver."""
