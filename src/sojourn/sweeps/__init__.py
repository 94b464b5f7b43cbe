"""Selective sweeps, by hand and by plan."""
