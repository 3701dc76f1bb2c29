"""Measure trackers: data sets, protocols, metrics, peers and one report."""
