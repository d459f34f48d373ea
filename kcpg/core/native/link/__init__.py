"""One link: epochs, liveness, path MTU, rekeying, and the flows it carries."""
