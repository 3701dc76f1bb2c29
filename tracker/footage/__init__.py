"""Footage: frames of videos and cameras, and data sets with boxes, for tracking, training and the benchmark."""
