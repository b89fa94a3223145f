"""The commands of the endpoint, one file per word of the command line."""
