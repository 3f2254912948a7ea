"""What scale costs, counted: see docs/explanation/scale.md."""
