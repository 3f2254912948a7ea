-- This owner is leaving.
drop(me)
return commit() or 1
