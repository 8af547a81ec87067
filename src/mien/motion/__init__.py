"""Audio to motion: the paper's second stage. It never touches pixels."""
