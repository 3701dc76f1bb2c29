"""The Siamese family: do two images show the same thing?

s = Similarity.load("photos")
s("a.jpg", "b.jpg")  # the probability that they do
"""

from tracker.similarity.likeness import Gallery, Match, Similarity, image_files
from tracker.similarity.network import (
    DISTANCES,
    FARS,
    FITTED,
    IMAGENET,
    SEQUENCES,
    SHIPPED,
    WORDS,
    SecondBranch,
    SimilarityConfig,
    SimilarityNet,
    load_similarity,
    to_input,
    to_pixels,
)

__all__ = [
    "DISTANCES",
    "FARS",
    "FITTED",
    "IMAGENET",
    "SEQUENCES",
    "SHIPPED",
    "WORDS",
    "Gallery",
    "Match",
    "SecondBranch",
    "Similarity",
    "SimilarityConfig",
    "SimilarityNet",
    "image_files",
    "load_similarity",
    "to_input",
    "to_pixels",
]
