"""Fits that are trained by back-propagation through the network: what they share, and the form of each."""
