"""What `remask.sample` and `remask.stream` are built of: a request, its rows of tokens, and the finished texts."""
