"""Judge runs: arithmetic over boxes, scores and truth. Nothing is run or drawn here."""
