"""What was found: as text, as a page, and in pictures."""
