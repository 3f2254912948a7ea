"""The outage matrix: each row is a fault and what must hold in it, each column a backend, each cell a test with figures."""
