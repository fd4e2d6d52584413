"""What both services share: the handler around every method, parsing, byte budgets."""
