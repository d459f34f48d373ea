"""The networks that scenarios run in, one family a file, each drawn where it is made."""
