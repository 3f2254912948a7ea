"""Values: names, instances, views, events. Nothing here does I/O or knows a product."""
