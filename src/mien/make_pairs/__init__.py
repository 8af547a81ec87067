"""Still portraits become clips with known motion: people to learn from who were never filmed."""
