-- All of a bucket at one moment; the state is answered as its fields epoch, rev and nonce.
return { redis.call('HMGET', state, 'epoch', 'rev', 'nonce'), redis.call('HGETALL', records) }
