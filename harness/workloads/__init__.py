"""Application traffic: small programs of two halves, each in its namespace, that report JSON."""
