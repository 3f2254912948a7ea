"""From the text of configuration values to an object of a user's class. Pure: no I/O, no clock, no thread.

`formats` reads text into plain mappings, `merging` lays them over each other, `models` makes the object of them, and `layers` decides
what of several sources is used while some of them are wrong.
"""
