"""What both services share: the request handler around every method, message parsing, byte budgets."""
