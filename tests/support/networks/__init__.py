"""Small, random and float networks."""
