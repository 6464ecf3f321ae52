"""Learning from preferences: of two replies to a prompt, the better one gains on the worse. One file for each
objective."""
