"""The networks of the scenarios, one family per file, each with its drawing."""
