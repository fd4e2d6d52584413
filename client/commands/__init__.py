"""The subcommands of ganclient, one file each; `client.__main__` puts them together."""
