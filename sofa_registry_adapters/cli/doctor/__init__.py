"""`sofa-registry doctor`: names what is wrong, in the order in which it has to be put right.

``settings → name → tcp → tls → login → permission → version → clock → records``, and not further than the
first step that makes the next one pointless. It writes one probe record in a bucket of its own, and removes it.
"""
