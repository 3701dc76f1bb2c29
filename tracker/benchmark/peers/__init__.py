"""Other trackers behind the two calls of ours, and ours for other benchmarks."""
