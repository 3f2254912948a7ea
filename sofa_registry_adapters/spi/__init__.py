"""What a plugin implements. Nothing here knows a product."""
