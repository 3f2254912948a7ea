"""The mutants by what they spoil, and the page that shows them."""
