"""The tracker in a browser: `siamtrack serve`."""
