"""What applications do: small programs of two halves, each run inside a namespace, that report JSON."""
