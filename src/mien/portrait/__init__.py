"""Image and motion -> frame (stage 1, the animator)."""
