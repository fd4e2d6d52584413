"""Who may call the server, and how the connection is encrypted: TLS files, tokens, access rules, warnings."""
