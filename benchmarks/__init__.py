"""Measurements against peers and plain baselines; run them all with `make bench`."""
